"""Samples: what is asked about which picture, and the true masks. The one file format between the stages.

A samples folder holds Parquet shards, which `datasets` reads too, and `dataset.json`, which names them. Shards hold no
pixels: pictures are found below the set's image root. Knows no data set and no model.

    >>> Sample("refcoco-unc-5342-15215", "train2014/COCO_train2014_000000520199.jpg", 640, 480, "pink shirt",
    ...        masks=(Rle((480, 640), "Wl^4..."),), source="refcoco", split="val")
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sam4mllm.atomic import atomic_path, one_line, write_text
from sam4mllm.errors import UserError
from sam4mllm.rle import Rle, union

VERSION = 1
INDEX = "dataset.json"
ROWS_PER_SHARD = 20_000  # with masks about 10 MB: small enough to hold, large enough to compress

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("phrase", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("masks", pa.list_(pa.field("counts", pa.string(), nullable=False)), nullable=False),
        pa.field("ignore", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ],
    metadata={"sam4mllm_samples_version": str(VERSION)},
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One expression about one picture, with its truth.

    Attributes:
        id: unique in its set.
        image: the picture's path below the set's image root, with forward slashes; it cannot leave the root.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        phrase: the words, as the data set's protocol has them asked. May be empty, where a set has such.
        masks: one per object that the words mean; () where they mean nothing in the picture.
        ignore: pixels that count neither way, or None.
        source: the data set.
        split: its part, in the data set's own word.
        kind: of the words: ``phrase`` (a noun phrase) or ``sentence`` (a sentence to reason about).
        raw: the words before the data set cleaned them; empty where there is no such text.

    Raises:
        UserError: for a mask of another size than the picture, or an image path that leaves the root.
    """

    id: str
    image: str
    width: int
    height: int
    phrase: str
    masks: tuple[Rle, ...]
    ignore: Rle | None = None
    source: str = ""
    split: str = ""
    kind: str = "phrase"
    raw: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.image)
        if not self.image or path.is_absolute() or ".." in path.parts or "\\" in self.image or ":" in path.parts[0]:
            raise UserError(f"sample {self.id}: an image is a path below the image root, got {self.image!r}")
        for rle in (*self.masks, *([self.ignore] if self.ignore else [])):
            if rle.size != (self.height, self.width):
                raise UserError(
                    f"sample {self.id}: a mask of (h, w) = {rle.size} on a picture of {(self.height, self.width)}"
                )

    @property
    def truth(self) -> Rle:
        """The union of the masks; empty where there are none."""
        return union(self.masks, self.height, self.width)


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples in order, and the folder below which their pictures lie."""

    samples: tuple[Sample, ...]
    images: Path

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def path(self, sample: Sample) -> Path:
        """Where the sample's picture should be; whether it is there shows when it is read."""
        return self.images / sample.image


def write_samples(samples: Iterable[Sample], folder: Path, images: Path) -> None:
    """Make ``folder`` a samples folder that holds exactly ``samples``; the same samples give the same bytes.

    `dataset.json` is renamed into place last, so a folder that existed before stays as it was until then, and shards
    that it no longer names are removed after. Other files in the folder are left alone.

    Args:
        samples: any number of them, also none.
        folder: made if need be.
        images: the image root. Kept as given if absolute, else noted relative to ``folder``.

    Raises:
        UserError: for an id that comes twice, or a folder that cannot be written.
    """
    rows = list(samples)
    doubles = [name for name, count in Counter(sample.id for sample in rows).items() if count > 1]
    if doubles:
        raise UserError(f"{len(doubles)} sample ids come more than once, the first is {doubles[0]}")
    starts = range(0, max(len(rows), 1), ROWS_PER_SHARD)
    shards = [_write_shard(rows[start : start + ROWS_PER_SHARD], folder, start // ROWS_PER_SHARD) for start in starts]
    index = {
        "version": VERSION,
        "images": images.as_posix() if images.is_absolute() else _relative(images, folder),
        "sources": sorted({sample.source for sample in rows}),
        "splits": sorted({sample.split for sample in rows}),
        "count": len(rows),
        "shards": shards,
    }
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    with one_line(folder):
        for stale in set(folder.glob("samples-*.parquet")) - {folder / name for name in shards}:
            stale.unlink()


def read_samples(folder: Path, images: Path | None = None) -> SampleSet:
    """The samples of a folder, in the order in which they were written.

    Args:
        folder: as `write_samples` leaves it.
        images: an image root to use instead of the noted one, for pictures that were moved.

    Raises:
        UserError: for a folder that holds no samples, samples of a newer version of this package, or damage.
    """
    index = _read_index(folder)
    rows = [sample for name in index["shards"] for sample in _read_shard(folder / name)]
    if len(rows) != index["count"]:
        raise UserError(f"{folder} holds {len(rows)} samples and {INDEX} speaks of {index['count']}: write it again")
    return SampleSet(tuple(rows), images if images is not None else folder / index["images"])


def _write_shard(samples: Sequence[Sample], folder: Path, number: int) -> str:
    """Write one shard under a name that its content decides, and return the name: an old shard is never overwritten."""
    table = pa.Table.from_pylist([_row(sample) for sample in samples], schema=_SCHEMA)
    packed = pa.BufferOutputStream()
    pq.write_table(table, packed, compression="zstd", write_page_checksum=True)
    data = packed.getvalue()
    name = f"samples-{number:05}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(data)
    return name


def _read_shard(path: Path) -> list[Sample]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read the shard {path}: {' '.join(str(error).split())}") from error
    if not table.schema.equals(_SCHEMA):
        raise UserError(f"{path} is no shard of samples: its columns are {', '.join(table.schema.names)}")
    return [_sample(row) for row in table.to_pylist()]


def _row(sample: Sample) -> dict[str, Any]:
    """The masks share the picture's size, so their counts are enough."""
    return {
        "id": sample.id,
        "image": sample.image,
        "width": sample.width,
        "height": sample.height,
        "phrase": sample.phrase,
        "raw": sample.raw,
        "masks": [rle.counts for rle in sample.masks],
        "ignore": sample.ignore.counts if sample.ignore else None,
        "source": sample.source,
        "split": sample.split,
        "kind": sample.kind,
    }


def _sample(row: dict[str, Any]) -> Sample:
    size = row["height"], row["width"]
    masks = tuple(Rle(size, counts) for counts in row.pop("masks"))
    ignore = row.pop("ignore")
    return Sample(**row, masks=masks, ignore=Rle(size, ignore) if ignore is not None else None)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder} is no samples folder: it has no {INDEX}; data_prep writes such folders")
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    match index:
        case {"version": int(version)} if version > VERSION:
            raise UserError(
                f"{folder} has samples of version {version}, this sam4mllm reads up to {VERSION}: update it"
            )
        case {"version": int(), "images": str(), "count": int(), "shards": [*names]} if all(map(_is_shard, names)):
            return dict(index)
    raise UserError(f"{path} is damaged: it should hold version, images, count and shards")


def _is_shard(name: object) -> bool:
    return isinstance(name, str) and name == PurePosixPath(name).name


def _relative(images: Path, folder: Path) -> str:
    """``images`` as seen from ``folder``, so that both can be moved together."""
    return Path(os.path.relpath(images, folder)).as_posix()
