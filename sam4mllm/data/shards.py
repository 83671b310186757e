"""Rows in Parquet shards, and a JSON index that names them: how samples and targets are kept.

A folder changes in one step. A shard's name holds a hash of its content, so none that the old index names is
overwritten; the new index is renamed into place last; shards that it does not name go after. Knows nothing of what the
rows mean.

    dataset.json: {"version": 1, "images": "../images", "count": 2, "shards": ["samples-00000-78b1a3e6c3b9.parquet"]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import one_line, write_bytes

T = TypeVar("T")
_WRITER = MappingProxyType(  # all said, so that another version of the library writes the same bytes as far as it can
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
ROWS_PER_SHARD = 20_000  # samples with masks are about 10 MB: small enough to hold, large enough to compress


@dataclass(frozen=True, slots=True)
class Kind:
    """What a folder of shards holds.

    Attributes:
        stem: what its rows are called, in the shards' names and in errors: ``samples``.
        index: the index's file name; one folder can hold several kinds.
        version: of the rows, 1 or more; a folder of a newer one is refused.
        schema: of every shard, in this order.
        noted: what its index notes besides, and the JSON type of each.
        writer: what writes such folders, for who has none.
    """

    stem: str
    index: str
    version: int
    schema: pa.Schema
    noted: Mapping[str, type]
    writer: str


@contextmanager
def new_shards(
    kind: Kind,
    rows: Iterable[Mapping[str, Any]],
    folder: Path,
    noted: Mapping[str, Any],
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Iterator[str]:
    """Put ``rows`` beside what a folder holds; the block makes them its content by writing the index that it is given.

    The same rows give the same bytes. Where the block ends well, shards of this kind that are not named any more are
    removed; other files are left alone.

    Args:
        kind: of the rows.
        rows: by the schema's names; none give one shard without rows.
        folder: made if need be.
        noted: what the index notes besides, as JSON, in this order.
        rows_per_shard: at most, 1 or more.

    Yields:
        The text of the index, for ``folder / kind.index``.

    Raises:
        UserError: where the folder cannot be written; it then still holds what it held.
    """
    count, names = 0, list[str]()
    for batch in _batches(rows, rows_per_shard):
        names.append(_write_shard(kind, batch, folder, len(names)))
        count += len(batch)
    yield json.dumps({"version": kind.version, **noted, "count": count, "shards": names}, indent=2) + "\n"
    with one_line(folder):
        for stale in set(folder.glob(f"{kind.stem}-*.parquet")) - {folder / name for name in names}:
            stale.unlink()


def read_shards(kind: Kind, folder: Path, of_row: Callable[[dict[str, Any]], T]) -> tuple[dict[str, Any], list[T]]:
    """The index of a folder, and what ``of_row`` makes of each row, in the order in which they were written.

    Raises:
        UserError: in one line, for a folder without such an index, rows of a newer version or another schema, damage
            (the checksum of every page is verified), or rows that are missing.
    """
    index = read_index(kind, folder)
    found = [of_row(row) for name in index["shards"] for row in _read_shard(kind, folder / name)]
    if len(found) != index["count"]:
        raise UserError(
            f"{folder} holds {len(found)} {kind.stem} and {kind.index} speaks of {index['count']}: write it again"
        )
    return index, found


def _batches(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    """At least one: a shard without rows still shows the schema to other readers."""
    rest = iter(rows)
    yield list(islice(rest, size))
    while batch := list(islice(rest, size)):
        yield batch


def _write_shard(kind: Kind, rows: list[Mapping[str, Any]], folder: Path, number: int) -> str:
    """Write one shard under a name that its content decides, and return the name: an old shard is never overwritten."""
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
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names in the footer that are no UTF-8
        raise UserError(f"cannot read the shard {path}: {' '.join(str(error).split())}") from error
    if not table.schema.equals(kind.schema):
        raise UserError(f"{path} is no shard of {kind.stem}: its columns are {', '.join(table.schema.names)}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def read_index(kind: Kind, folder: Path) -> dict[str, Any]:
    """The index of a folder alone.

    Raises:
        UserError: in one line, for a folder without one, one of a newer version, or damage.
    """
    path = folder / kind.index
    if folder.name == kind.index and folder.is_file():
        raise UserError(f"{folder} is a file of a {kind.stem} folder: give the folder, {folder.parent}")
    if not path.is_file():
        kept = "" if not folder.is_dir() or any(folder.iterdir()) else " (it is empty)"
        raise UserError(
            f"{folder} is no {kind.stem} folder: it has no {kind.index}; {kind.writer} writes such folders{kept}"
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
            isinstance(index.get(key), form) for key, form in kind.noted.items()
        ):
            return dict(index)
    raise UserError(f"{path} is damaged: it should hold version, {', '.join(kind.noted)}, count and shards")


def _is_shard(name: object) -> bool:
    return isinstance(name, str) and name == PurePosixPath(name).name
