"""Samples: a phrase, an image, and the ground truth masks. All stages exchange data in this format.

A samples folder holds Parquet shards, which `datasets` can read too, and ``dataset.json``, an index that lists them.
Shards contain no pixels: image paths are relative to the image root.

    >>> Sample("refcoco-unc-5342-15215", "train2014/COCO_train2014_000000520199.jpg", 640, 480, "pink shirt",
    ...        masks=(Rle((480, 640), "Wl^4..."),), source="refcoco", split="val")
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as short_repr
from typing import Any, Protocol, TypeVar, runtime_checkable

import pyarrow as pa

from sam4mllm.data.shards import Kind, read_shards, required, write_shards
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.geometry.rle import MAX_PIXELS, Rle, union
from sam4mllm.images.files import read_image

VERSION = 1
LONGEST_NAME = 255  # bytes in the name of a file or folder, the limit of common file systems
INDEX = "dataset.json"

IMAGE_COLUMNS = (
    *(required(name, pa.string()) for name in ("id", "image")),
    *(required(name, pa.int32()) for name in ("width", "height")),
)
"""The columns of any row about an image."""
ORIGIN_COLUMNS = (required("source", pa.string()), required("split", pa.string()))
"""The columns for the dataset of a row and its split."""

_SCHEMA = pa.schema(
    [
        *IMAGE_COLUMNS,
        required("phrase", pa.string()),
        required("raw", pa.string()),
        required("masks", pa.list_(required("counts", pa.string()))),
        pa.field("ignore", pa.string()),
        *ORIGIN_COLUMNS,
        required("kind", pa.string()),
    ],
    metadata={"sam4mllm_samples_version": str(VERSION)},
)
_KIND = Kind("samples", INDEX, VERSION, _SCHEMA, index_fields={"images": str}, writer="sam4mllm data")


@dataclass(frozen=True, slots=True)
class Sample:
    """One referring expression about one image, with its ground truth.

    Attributes:
        id: unique within its folder.
        image: path of the image relative to the image root, with forward slashes; it cannot leave the root.
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        phrase: the expression in the form that the dataset's protocol prescribes; empty if the dataset has empty ones.
        masks: one per object that the phrase refers to; () if the image has no such object.
        ignore: pixels that evaluation ignores, or None.
        source: the dataset.
        split: the dataset's own name of the split.
        kind: ``phrase`` for a noun phrase, ``sentence`` for a sentence that needs reasoning.
        raw: the text before the dataset normalised it; empty if there is none.

    Raises:
        UserError: if a mask differs in size from the image, the size is out of range, or the image path is invalid or
            leaves the root.
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
                f"sample {self.id}: an image must have 1 to {MAX_PIXELS} pixels, got {self.width} x {self.height}"
            )
        for rle in (*self.masks, *([self.ignore] if self.ignore else [])):
            if rle.size != (self.height, self.width):
                size = self.height, self.width
                raise UserError(f"sample {self.id}: a mask of (h, w) = {rle.size} does not fit an image of {size}")

    @property
    def ground_truth(self) -> Rle:
        """The union of the masks; an empty mask if there are none."""
        return union(self.masks, self.height, self.width)


def check_below_root(image: str, owner: str) -> None:
    """Check that an image path cannot leave the image root and is a valid file name.

    Args:
        image: the path.
        owner: name of the row with the path, for the error message.

    Raises:
        UserError: if the path is invalid or could leave the root.
    """
    path = PurePosixPath(image)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in image or ":" in path.parts[0]:
        raise UserError(f"{owner}: an image must be a path below the image root, got {image!r}")
    if "\0" in image or any(len(part.encode(errors="replace")) > LONGEST_NAME for part in path.parts):
        raise UserError(f"{owner}: not a valid file name: {short_repr(image)}")


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples in order, and the image root that their image paths are relative to."""

    samples: tuple[Sample, ...]
    images: Path

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def path(self, sample: Sample) -> Path:
        """Path of the sample's image file; the file is not checked."""
        return self.images / sample.image

    def read_image(self, *samples: Sample) -> Image:
        """The image that all of the given samples share.

        Raises:
            UserError: if the image cannot be read, or its size differs from that of a sample.
        """
        return read_shared_image(self.path(samples[0]), "sample", samples)

    def with_masks(self) -> SampleSet:
        """The samples with at least one mask."""
        return SampleSet(tuple(sample for sample in self.samples if sample.masks), self.images)

    def by_image(self) -> list[SampleSet]:
        """The samples grouped by image, in the order of the images' first occurrence."""
        groups: dict[str, list[Sample]] = {}
        for sample in self.samples:
            groups.setdefault(sample.image, []).append(sample)
        return [SampleSet(tuple(group), self.images) for group in groups.values()]


@runtime_checkable
class ImageRow(Protocol):
    """A row about an image, with the expected size of the image in pixels, its dataset and split."""

    @property
    def id(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def split(self) -> str: ...


Row = TypeVar("Row", bound=ImageRow)


def read_shared_image(path: Path, what: str, rows: Sequence[ImageRow]) -> Image:
    """The image that all of the given rows share.

    Args:
        path: path of the image file.
        what: name of the kind of rows, for error messages.
        rows: one or more rows.

    Raises:
        UserError: if the image cannot be read, or its size differs from that of a row.
    """
    try:
        image = read_image(path)
    except UserError as error:
        raise UserError(f"{what} {rows[0].id}: {error}") from error
    height, width, _ = image.shape
    for row in rows:
        if (row.height, row.width) != (height, width):
            raise UserError(
                f"{what} {row.id}: {path} is {width} x {height} pixels, but the {what} has {row.width} x {row.height}"
            )
    return image


def write_samples(samples: Iterable[Sample], folder: Path, images: Path) -> None:
    """Write samples to ``folder``, replacing the samples in it. Equal samples give identical bytes.

    An interrupted write leaves the old samples. Other files in the folder are not changed.

    Args:
        samples: the samples; may be empty.
        folder: the folder; created if missing.
        images: the image root. An absolute path is stored unchanged; a relative one is stored relative to ``folder``,
            with links resolved.

    Raises:
        UserError: if an id occurs more than once, or the folder cannot be written.
    """
    write_image_rows(_KIND, samples, _row, folder, images)


def read_samples(folder: Path, images: Path | None = None) -> SampleSet:
    """The samples of a folder, in the order of writing.

    Args:
        folder: a folder written by `write_samples`.
        images: overrides the stored image root, for images that were moved.

    Raises:
        UserError: if the folder holds no samples, or its files are damaged or from a newer version of this package.
    """
    return SampleSet(*read_image_rows(_KIND, folder, _sample, images))


def check_ids(ids: Iterable[str], what: str) -> None:
    """Check that no id occurs more than once; ``what`` names the kind of rows in the error message.

    Raises:
        UserError: if ids are repeated; the message gives their number and the first of them.
    """
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(f"{len(repeated)} {what} ids occur more than once, the first is {repeated[0]!r:.200}")


def write_image_rows(
    kind: Kind, rows: Iterable[Row], convert: Callable[[Row], Mapping[str, Any]], folder: Path, images: Path
) -> None:
    """Make a folder hold exactly these rows of this kind; the index stores the image root, datasets and splits.

    ``convert`` converts a row to the columns of the schema. ``images`` is stored as by `write_samples`.

    Raises:
        UserError: if an id occurs more than once, or the folder cannot be written.
    """
    rows = list(rows)
    check_ids((row.id for row in rows), kind.stem.removesuffix("s"))
    index_fields = {
        "images": images.as_posix() if images.is_absolute() else _relative(images, folder),
        "sources": sorted({row.source for row in rows}),
        "splits": sorted({row.split for row in rows}),
    }
    write_shards(kind, map(convert, rows), folder, index_fields)


def read_image_rows(
    kind: Kind, folder: Path, convert: Callable[[dict[str, Any]], Row], images: Path | None
) -> tuple[tuple[Row, ...], Path]:
    """The rows of a folder in the order of writing, and their image root: ``images``, or the stored one if None.

    Raises:
        UserError: as `read_shards` does.
    """
    index, rows = read_shards(kind, folder, convert)
    return tuple(rows), images if images is not None else folder / index["images"]


def _row(sample: Sample) -> dict[str, Any]:
    """The row of a sample. Masks have the size of the image, so only their counts are stored."""
    return {
        **{name: getattr(sample, name) for name in _SCHEMA.names},
        "masks": [rle.counts for rle in sample.masks],
        "ignore": sample.ignore.counts if sample.ignore else None,
    }


def _sample(row: dict[str, Any]) -> Sample:
    size = row["height"], row["width"]
    masks = tuple(Rle(size, counts) for counts in row["masks"])
    ignore = Rle(size, row["ignore"]) if row["ignore"] is not None else None
    return Sample(**{**row, "masks": masks, "ignore": ignore})


def _relative(images: Path, folder: Path) -> str:
    """``images`` relative to ``folder``, so that both can be moved together.

    Links are resolved first: ``..`` in a linked folder leads to the parent of the link's target, not of the link.
    """
    return Path(os.path.relpath(images.resolve(), folder.resolve())).as_posix()
