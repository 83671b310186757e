"""Masks of any peer, as outcomes to score: our JSON lines, a folder of PNGs, or a list of COCO RLE, whatever is there.

PNGs bear the sample's id as their name, percent-encoded but for ASCII letters, digits, ``_-~`` and inner dots; every
pixel that is not 0 is foreground, in a palette by its index, and of colours whatever their alpha is. A list of COCO RLE
is JSON:

    [{"sample_id": "refcoco-unc-5342-15215", "segmentation": {"size": [480, 640], "counts": "..."}}, ...]

``id`` stands in for ``sample_id`` where that is missing; polygons and uncompressed counts are read too. Which samples
there are is not checked here but where they are paired (`tally`). Knows nothing of truth.
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
from sam4mllm.evaluation.pairing import Places
from sam4mllm.geometry.prompts import Mask
from sam4mllm.geometry.rle import MAX_PIXELS, Rle, size_and_counts
from sam4mllm.geometry.rle_parse import short
from sam4mllm.prediction.record import Outcome, read_outcomes


@dataclass(frozen=True, slots=True)
class Found:
    """The outcomes at a path, read as they are asked for, and where each of them stands, for messages."""

    outcomes: Iterator[Outcome]
    places: Places


def read_any(path: Path, samples: Sequence[Sample]) -> Found:
    """The masks at a path, whoever made them.

    Args:
        path: a folder of PNGs, a JSON list of COCO RLE, or our JSON lines.
        samples: what they are of, in whose sizes polygons are painted.

    Raises:
        UserError: for a path that holds no predictions at all; when its turn comes, naming the file, line or entry
            that cannot be read.
    """
    if path.is_dir():
        found = Found(_pngs(path), Places(path, named=file_name))
    elif _is_list(path):
        found = Found(_entries(path, samples), Places(path, "entry"))
    else:
        found = Found(read_outcomes(path), Places(path))
    first = next(found.outcomes, None)
    if first is None and samples:
        raise UserError(
            f"{path} holds no predictions: {len(samples)} samples have no prediction, the first is {samples[0].id}"
        )
    return replace(found, outcomes=chain([first], found.outcomes) if first else found.outcomes)


def file_name(sample_id: str) -> str:
    """The name of the PNG that holds a sample's mask: safe on any file system, and no two ids share one."""
    name = quote(sample_id, safe="")
    return f"%2E{name[1:]}.png" if name.startswith(".") else f"{name}.png"  # no hidden file, and none of dots alone


def _is_list(path: Path) -> bool:
    """Whether a file begins as a JSON list does, after a byte order mark and blanks; what is none is left to others."""
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
        with PIL.Image.open(file, formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UserError(f"{file} is larger than a mask may be: {picture.width} x {picture.height} pixels")
            bands = len(picture.getbands()) - (picture.mode in ("LA", "RGBA", "PA", "La", "RGBa"))
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for damage
        raise UserError(f"cannot read {file} as a PNG: {str(error).splitlines()[0]}") from error
    flat = pixels.reshape(*pixels.shape[:2], -1)[..., :bands]
    found: Mask = (flat != 0).any(axis=2)
    return found


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
        raise UserError(f"a mask has a sample_id and a segmentation, got {short(entry)}") from error
    match segmentation:
        case {"size": [int(), int()], "counts": str()}:
            return Outcome(name, size_and_counts(segmentation))
        case {"size": [int(height), int(width)]}:
            size = height, width
        case _ if name in sizes:
            size = sizes[name]
        case _:
            raise UserError(f"{name} is of no sample, so its polygons have no picture")
    rle = Rle.from_coco(segmentation, *size)
    return Outcome(name, (rle.size, rle.counts))
