"""Rows in Parquet shards with a JSON index that lists them: the storage of samples, conversations and targets.

A folder changes atomically. The name of a shard contains a hash of its content, so new shards never overwrite shards of
the old index. The new index is renamed into place last. Then the shards that it does not list are removed.

    dataset.json: {"version": 1, "images": "../images", "count": 2, "shards": ["samples-00000-78b1a3e6c3b9.parquet"]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import os_errors_as_user_errors, write_bytes, write_text

T = TypeVar("T")
_WRITER = MappingProxyType(  # all explicit, so that other versions of pyarrow write the same bytes if possible
    {
        "version": "2.6",
        "data_page_version": "1.0",
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": True,
        "write_statistics": True,
        "write_page_checksum": True,
    }
)
ROWS_PER_SHARD = 20_000  # about 10 MB of samples with masks: fits in memory and compresses well


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rows and its storage format.

    Attributes:
        stem: name of the rows in file names and error messages, such as ``samples``.
        index: file name of the index; one folder can hold several kinds.
        version: version of the format, 1 or more; newer folders are refused.
        schema: schema of every shard, with the columns in this order.
        index_fields: additional fields of the index and their JSON types.
        writer: the command that writes such folders, for error messages.
    """

    stem: str
    index: str
    version: int
    schema: pa.Schema
    index_fields: Mapping[str, type]
    writer: str


def required(name: str, dtype: pa.DataType) -> pa.Field:
    """A column or an element that is never null."""
    return pa.field(name, dtype, nullable=False)


def write_shards(kind: Kind, rows: Iterable[Mapping[str, Any]], folder: Path, index_fields: Mapping[str, Any]) -> None:
    """Make a folder hold exactly these rows of this kind. Equal rows give identical bytes.

    The index is renamed into place last, so an interrupted write leaves the old rows. Afterwards the shards of this
    kind that the index does not list are removed. Other files are not changed.

    Args:
        kind: the kind of the rows.
        rows: rows with the column names of the schema; without rows one empty shard is written.
        folder: the folder; created if missing.
        index_fields: additional fields of the index, as JSON values, in this order.

    Raises:
        UserError: if the folder cannot be written; its content is then unchanged.
    """
    count, names = 0, list[str]()
    for batch in _batches(rows):
        names.append(_write_shard(kind, batch, folder, len(names)))
        count += len(batch)
    index = {"version": kind.version, **index_fields, "count": count, "shards": names}
    write_text(folder / kind.index, json.dumps(index, indent=2) + "\n")
    with os_errors_as_user_errors(folder):
        for stale in set(folder.glob(f"{kind.stem}-*.parquet")) - {folder / name for name in names}:
            stale.unlink()


def read_shards(kind: Kind, folder: Path, of_row: Callable[[dict[str, Any]], T]) -> tuple[dict[str, Any], list[T]]:
    """The index of a folder, and ``of_row`` of each row, in the order of writing.

    Raises:
        UserError: if the folder has no such index, the rows have a newer version or another schema, rows are missing,
            or a file is damaged (the checksum of every page is verified). The message is one line.
    """
    index = read_index(kind, folder)
    rows = [of_row(row) for name in index["shards"] for row in _read_shard(kind, folder / name)]
    if len(rows) != index["count"]:
        raise UserError(
            f"{folder} holds {len(rows)} {kind.stem}, but {kind.index} lists {index['count']}: write the folder again"
        )
    return index, rows


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """At least one batch: a shard without rows still has the schema for other readers."""
    iterator = iter(rows)
    yield list(islice(iterator, ROWS_PER_SHARD))
    while batch := list(islice(iterator, ROWS_PER_SHARD)):
        yield batch


def _write_shard(kind: Kind, rows: list[Mapping[str, Any]], folder: Path, number: int) -> str:
    """Write one shard and return its name, which contains a hash: another shard is never overwritten."""
    packed = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=kind.schema)
    pq.write_table(table, packed, row_group_size=ROWS_PER_SHARD, **_WRITER)
    data = packed.getvalue()
    name = f"{kind.stem}-{number:05}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
    write_bytes(folder / name, data.to_pybytes())
    return name


def _read_shard(kind: Kind, path: Path) -> list[dict[str, Any]]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names in the footer that are not UTF-8
        raise UserError(f"cannot read the shard {path}: {' '.join(str(error).split())}") from error
    if not table.schema.equals(kind.schema):
        raise UserError(f"{path} is not a shard of {kind.stem}: its columns are {', '.join(table.schema.names)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def read_index(kind: Kind, folder: Path) -> dict[str, Any]:
    """The index of a folder.

    Raises:
        UserError: if the index is missing, damaged or of a newer version. The message is one line.
    """
    path = folder / kind.index
    if folder.name == kind.index and folder.is_file():
        raise UserError(f"{folder} is a file of a {kind.stem} folder: give the folder, {folder.parent}")
    if not path.is_file():
        hint = "" if not folder.is_dir() or any(folder.iterdir()) else " (it is empty)"
        raise UserError(
            f"{folder} is not a {kind.stem} folder: it has no {kind.index}; create one with {kind.writer}{hint}"
        )
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    match index:
        case {"version": int(version)} if version > kind.version:
            raise UserError(
                f"{folder} has {kind.stem} of version {version}, this sam4mllm reads up to {kind.version}: update it"
            )
        case {"version": int(), "count": int(), "shards": [*names]} if all(map(_is_shard, names)) and all(
            isinstance(index.get(key), json_type) for key, json_type in kind.index_fields.items()
        ):
            return dict(index)
    raise UserError(f"{path} is damaged: it should hold version, {', '.join(kind.index_fields)}, count and shards")


def _is_shard(name: object) -> bool:
    return isinstance(name, str) and name == PurePosixPath(name).name
