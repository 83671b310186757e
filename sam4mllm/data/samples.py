"""Samples: what is asked about which picture, and the true masks. The one file format between the stages.

A samples folder holds Parquet shards, which `datasets` reads too, and `dataset.json`, which names them. Shards hold no
pixels: pictures are found below the set's image root. Knows no data set and no model.

    >>> Sample("refcoco-unc-5342-15215", "train2014/COCO_train2014_000000520199.jpg", 640, 480, "pink shirt",
    ...        masks=(Rle((480, 640), "Wl^4..."),), source="refcoco", split="val")
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as shown
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from sam4mllm.data.shards import ROWS_PER_SHARD, Kind, new_shards, read_shards
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.geometry.rle import MAX_PIXELS, Rle, union
from sam4mllm.images.files import read_image
from sam4mllm.runtime.files import write_text

VERSION = 1
LONGEST_NAME = 255  # bytes; of a file or folder, on every common file system
INDEX = "dataset.json"

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
_KIND = Kind("samples", INDEX, VERSION, _SCHEMA, noted={"images": str}, writer="`sam4mllm data`")


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
        UserError: for a mask of another size than the picture, a size that no picture has, or an image path that
            leaves the root or that no file can have.
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
        check_below_root(self.image, f"sample {self.id}")
        if self.width < 1 or self.height < 1 or self.width * self.height > MAX_PIXELS:
            raise UserError(
                f"sample {self.id}: a picture has 1 to {MAX_PIXELS} pixels, got {self.width} x {self.height}"
            )
        for rle in (*self.masks, *([self.ignore] if self.ignore else [])):
            if rle.size != (self.height, self.width):
                raise UserError(
                    f"sample {self.id}: a mask of (h, w) = {rle.size} on a picture of {(self.height, self.width)}"
                )

    @property
    def truth(self) -> Rle:
        """The union of the masks; empty where there are none."""
        return union(self.masks, self.height, self.width)


def check_below_root(image: str, whose: str) -> None:
    """Make sure that a picture's path cannot leave the image root, and that a file can have it.

    Raises:
        UserError: naming ``whose`` it is, where it could, or none can.
    """
    path = PurePosixPath(image)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in image or ":" in path.parts[0]:
        raise UserError(f"{whose}: an image is a path below the image root, got {image!r}")
    if "\0" in image or any(len(part.encode(errors="replace")) > LONGEST_NAME for part in path.parts):
        raise UserError(f"{whose}: no file can be called {shown(image)}")


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

    def picture(self, *samples: Sample) -> Image:
        """The one picture that some samples are about.

        Raises:
            UserError: naming sample and picture, where it cannot be read or has another size than a sample says.
        """
        return read_shown(self.path(samples[0]), "sample", samples)

    def with_masks(self) -> SampleSet:
        """The samples that have masks."""
        return SampleSet(tuple(sample for sample in self.samples if sample.masks), self.images)

    def by_picture(self) -> list[SampleSet]:
        """The samples in one set for each picture, in the order in which the pictures come first."""
        about: dict[str, list[Sample]] = {}
        for sample in self.samples:
            about.setdefault(sample.image, []).append(sample)
        return [SampleSet(tuple(some), self.images) for some in about.values()]


@runtime_checkable
class Shown(Protocol):
    """What is said about a picture, and the size that the picture should have."""

    @property
    def id(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def read_shown(path: Path, what: str, rows: Sequence[Shown]) -> Image:
    """The one picture that some rows are about.

    Args:
        path: of the picture.
        what: the rows are, in one word, for errors.
        rows: one or more.

    Raises:
        UserError: naming row and picture, where it cannot be read or has another size than a row says.
    """
    try:
        image = read_image(path)
    except UserError as error:
        raise UserError(f"{what} {rows[0].id}: {error}") from error
    height, width, _ = image.shape
    for row in rows:
        if (row.height, row.width) != (height, width):
            raise UserError(
                f"{what} {row.id}: {path} is {width} x {height} pixels, the {what} says {row.width} x {row.height}"
            )
    return image


def write_samples(samples: Iterable[Sample], folder: Path, images: Path) -> None:
    """Make ``folder`` a samples folder that holds exactly ``samples``; the same samples give the same bytes.

    `dataset.json` is renamed into place last, so a folder that existed before stays as it was until then, and shards
    that it no longer names are removed after. Other files in the folder are left alone.

    Args:
        samples: any number of them, also none.
        folder: made if need be.
        images: the image root. Kept as given if absolute, else noted as seen from ``folder``, links followed.

    Raises:
        UserError: for an id that comes twice, or a folder that cannot be written.
    """
    rows = list(samples)
    noted = noted_of([(row.id, row.source, row.split) for row in rows], "sample", folder, images)
    with new_shards(_KIND, map(_row, rows), folder, noted, ROWS_PER_SHARD) as index:
        write_text(folder / INDEX, index)


def read_samples(folder: Path, images: Path | None = None) -> SampleSet:
    """The samples of a folder, in the order in which they were written.

    Args:
        folder: as `write_samples` leaves it.
        images: an image root to use instead of the noted one, for pictures that were moved.

    Raises:
        UserError: for a folder that holds no samples, samples of a newer version of this package, or damage.
    """
    index, rows = read_shards(_KIND, folder, _sample)
    return SampleSet(tuple(rows), images if images is not None else folder / index["images"])


def check_ids(ids: Iterable[str], what: str) -> None:
    """Make sure that no id comes twice.

    Raises:
        UserError: saying how many do, and ``what`` they are of, in one word.
    """
    doubles = [name for name, count in Counter(ids).items() if count > 1]
    if doubles:
        raise UserError(f"{len(doubles)} {what} ids come more than once, the first is {doubles[0]!r:.200}")


def noted_of(rows: Sequence[tuple[str, str, str]], what: str, folder: Path, images: Path) -> dict[str, Any]:
    """What the index of rows about pictures notes of them: where the pictures are, the sets and the splits.

    Args:
        rows: the id, source and split of each.
        what: they are, in one word, for errors.
        folder: that will hold them.
        images: the image root. Kept as given if absolute, else noted as seen from ``folder``, links followed.

    Raises:
        UserError: for an id that comes twice.
    """
    check_ids((name for name, _, _ in rows), what)
    return {
        "images": images.as_posix() if images.is_absolute() else _relative(images, folder),
        "sources": sorted({source for _, source, _ in rows}),
        "splits": sorted({split for _, _, split in rows}),
    }


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


def _relative(images: Path, folder: Path) -> str:
    """``images`` as seen from ``folder``, so that both can be moved together.

    Links are followed first: ``..`` below a linked folder leads to where the link goes, not to where it lies.
    """
    return Path(os.path.relpath(images.resolve(), folder.resolve())).as_posix()
