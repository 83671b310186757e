"""Reads masks of any tool to score them: JSON Lines from `predict`, a folder of PNGs, or a JSON list of COCO RLE.

A PNG is named after the sample's id, percent-encoded except ASCII letters, digits, ``_-~`` and inner dots. Every pixel
that is not 0 is foreground; palette images count by index, and alpha is ignored. A list of COCO RLE is JSON:

    [{"sample_id": "refcoco-unc-5342-15215", "segmentation": {"size": [480, 640], "counts": "..."}}, ...]

``id`` is read if ``sample_id`` is missing; polygons and uncompressed counts are read too. `evaluate_set` checks that
the masks belong to the samples.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import PIL.Image

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.pairing import Locations
from sam4mllm.geometry.prompts import Mask
from sam4mllm.geometry.rle import MAX_PIXELS, Rle, size_and_counts
from sam4mllm.geometry.rle_parse import short
from sam4mllm.prediction.record import Outcome, read_outcomes


@dataclass(frozen=True, slots=True)
class ExternalMasks:
    """The outcomes at a path, read lazily, and their locations for error messages."""

    outcomes: Iterator[Outcome]
    places: Locations


def read_any(path: Path, samples: Sequence[Sample]) -> ExternalMasks:
    """Opens the masks at a path, in any of the three formats.

    Args:
        path: a folder of PNGs, a JSON list of COCO RLE, or JSON Lines from `predict`.
        samples: the samples of the masks; polygons are rasterised at the size of their sample.

    Raises:
        UserError: if the path holds no predictions; while iterating, if a file, line or entry cannot be read (the
            message names it).
    """
    if path.is_dir():
        masks = ExternalMasks(_pngs(path), Locations(path, named=file_name))
    elif _is_list(path):
        masks = ExternalMasks(_entries(path, samples), Locations(path, "entry"))
    else:
        masks = ExternalMasks(read_outcomes(path), Locations(path))
    first = next(masks.outcomes, None)
    if first is None and samples:
        raise UserError(
            f"{path} holds no predictions: {len(samples)} samples have no prediction, first {samples[0].id}"
        )
    return replace(masks, outcomes=chain([first], masks.outcomes) if first else masks.outcomes)


def file_name(sample_id: str) -> str:
    """The file name of a sample's PNG: safe on any file system, and unique for each id."""
    name = quote(sample_id, safe="")
    return f"%2E{name[1:]}.png" if name.startswith(".") else f"{name}.png"  # avoids hidden files, "." and ".."


def _is_list(path: Path) -> bool:
    """Whether a file starts with "[", after a byte order mark and white space."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
        while (first := file.read(1)).isspace():
            pass
        return first == b"["


def _pngs(folder: Path) -> Iterator[Outcome]:
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png"):
        name, rle = unquote(file.name[: -len(file.suffix)]), Rle.from_mask(_mask(file))
        yield Outcome(name, (rle.size, rle.counts))


def _mask(file: Path) -> Mask:
    try:
        with PIL.Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{file} is too large for a mask: {image.width} x {image.height} pixels")
            bands = len(image.getbands()) - (image.mode in ("LA", "RGBA", "PA", "La", "RGBa"))
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for damaged files
        raise UserError(f"cannot read {file} as a PNG: {str(error).splitlines()[0]}") from error
    flat = pixels.reshape(*pixels.shape[:2], -1)[..., :bands]
    mask: Mask = (flat != 0).any(axis=2)
    return mask


def _entries(path: Path, samples: Sequence[Sample]) -> Iterator[Outcome]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error
    sizes = {sample.id: (sample.height, sample.width) for sample in samples}
    for number, entry in enumerate(entries, 1):
        try:
            yield _entry(entry, sizes)
        except UserError as error:
            raise UserError(f"{path}, entry {number}: {error}") from error


def _entry(entry: Any, sizes: Mapping[str, tuple[int, int]]) -> Outcome:
    try:
        name = str(entry["sample_id"] if "sample_id" in entry else entry["id"])
        segmentation = entry["segmentation"]
    except (TypeError, KeyError) as error:
        raise UserError(f"an entry needs sample_id and segmentation, got {short(entry)}") from error
    match segmentation:
        case {"size": [int(), int()], "counts": str()}:
            return Outcome(name, size_and_counts(segmentation))
        case {"size": [int(height), int(width)]}:
            size = height, width
        case _ if name in sizes:
            size = sizes[name]
        case _:
            raise UserError(f"no sample has the id {name}, so the image size of its polygons is unknown")
    rle = Rle.from_coco(segmentation, *size)
    return Outcome(name, (rle.size, rle.counts))
