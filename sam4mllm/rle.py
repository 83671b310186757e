"""Masks as COCO run-length encodings: small in a file, and counted without being drawn. Knows nothing of samples.

Runs go down the columns, off first: ``[2, 1, 3]`` on a 3 x 2 mask (h x w) sets the lower left pixel alone. An `Rle`
that exists is a sound one: its runs are checked before pycocotools' C code, which trusts them, ever sees them.

    >>> Rle.from_mask(mask)
    Rle(size=(3, 2), counts='213')
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Int64
from pycocotools import mask as coco

from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Mask

# pycocotools' merge reserves 4 bytes a pixel up front and counts in 32 bits; Pillow refuses pictures of this size too
MAX_PIXELS = 2**28
_FIRST = ord("0")
_CHARACTERS = bytes(range(_FIRST, _FIRST + 64))
_LONGEST_NUMBER = 7  # characters of 5 bits; no mask that MAX_PIXELS allows needs more


@dataclass(frozen=True, slots=True)
class Rle:
    """A binary mask of ``size`` (h, w) in COCO's compressed run-length encoding, always sound.

    No run but the first is empty: where foreign counts hold such runs they are joined, for pycocotools' merge stops
    at them. A copy with joined runs is what the value then holds.

    Raises:
        UserError: for a size or counts that no mask can have.
    """

    size: tuple[int, int]
    counts: str

    def __post_init__(self) -> None:
        runs = _parse(self.counts, _pixels(self.size))
        if not runs[1:].all():
            object.__setattr__(self, "counts", Rle.from_runs(runs.tolist(), *self.size).counts)

    @classmethod
    def from_mask(cls, mask: Mask) -> Rle:
        """The encoding of a dense mask."""
        height, width = mask.shape
        _pixels((height, width))
        return cls((height, width), coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode())

    @classmethod
    def empty(cls, height: int, width: int) -> Rle:
        """The mask of nothing."""
        return cls.from_runs([height * width], height, width)

    @classmethod
    def from_runs(cls, runs: Sequence[int], height: int, width: int) -> Rle:
        """From uncompressed runs, off first, as COCO writes crowds.

        Raises:
            UserError: unless the runs fill height x width.
        """
        pixels = _pixels((height, width))
        if min(runs, default=-1) < 0 or sum(runs) != pixels:
            raise UserError(f"the runs of a mask of {height} x {width} are 0 or more and sum to {pixels}")
        joined = _join(runs)
        encoded = coco.frPyObjects({"size": [height, width], "counts": joined}, height, width)
        return cls((height, width), encoded["counts"].decode())

    @classmethod
    def from_coco(cls, segmentation: Any, height: int, width: int) -> Rle:
        """From a COCO annotation's ``segmentation``: polygons, or a crowd's runs, compressed or not.

        Args:
            segmentation: ``[[x, y, x, y, ...], ...]`` (their union, as pycocotools paints them) or
                ``{"size": [h, w], "counts": [...] or "..."}``. No polygons are the empty mask.
            height: of the picture, in pixels.
            width: of the picture, in pixels.

        Raises:
            UserError: for anything else, or a size other than the picture's.
        """
        if isinstance(segmentation, list):
            return _from_polygons(segmentation, height, width)
        match segmentation:
            case {"size": [int(h), int(w)], "counts": [*runs]}:
                if not all(type(run) is int for run in runs):
                    raise UserError(f"the runs of a mask are whole numbers, got {_short(runs)}")
                rle = cls.from_runs(runs, h, w)
            case _:
                rle = cls.from_json(segmentation)
        _same_size([rle], (height, width))
        return rle

    @classmethod
    def from_json(cls, value: Any) -> Rle:
        """From ``{"size": [h, w], "counts": "..."}``.

        Raises:
            UserError: for anything else.
        """
        match value:
            case {"size": [int(height), int(width)], "counts": str(counts)}:
                return cls((height, width), counts)
        raise UserError(f'a mask is {{"size": [h, w], "counts": "..."}}, got {_short(value)}')

    def to_json(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": "..."}``, as COCO and its tools read it."""
        return {"size": list(self.size), "counts": self.counts}

    @property
    def mask(self) -> Mask:
        """The dense mask, decoded anew at each call."""
        runs = _parse(self.counts, _pixels(self.size))
        return np.ascontiguousarray(np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(self.size, order="F"))

    @property
    def area(self) -> int:
        """How many pixels are set."""
        return int(coco.area(self.to_json()))

    @property
    def box(self) -> Box | None:
        """The tightest box around the mask, by pixel edges; None for an empty mask."""
        x, y, width, height = map(float, coco.toBbox(self.to_json()))
        return Box(x, y, x + width, y + height) if width and height else None


def union(rles: Sequence[Rle], height: int, width: int) -> Rle:
    """The union of masks of size (height, width): a pixel that several hold counts once; empty for no masks.

    Raises:
        UserError: for a mask of another size.
    """
    _same_size(rles, (height, width))
    if len(rles) == 1:
        return rles[0]
    return _merged(rles, intersect=False) if rles else Rle.empty(height, width)


def intersection(*rles: Rle) -> int:
    """How many pixels all of the masks hold, exactly; nothing is decoded.

    Raises:
        UserError: for masks of several sizes.
    """
    _same_size(rles, rles[0].size)
    # straight to the area: what pycocotools itself has encoded needs no second look
    return int(coco.area(coco.merge([rle.to_json() for rle in rles], intersect=True)))


def _merged(rles: Sequence[Rle], intersect: bool) -> Rle:
    merged = coco.merge([rle.to_json() for rle in rles], intersect=intersect)
    return Rle(rles[0].size, merged["counts"].decode())


def _same_size(rles: Sequence[Rle], size: tuple[int, int]) -> None:
    for rle in rles:
        if rle.size != size:
            raise UserError(f"masks of one picture have one size: got (h, w) = {rle.size} and {size}")


def _pixels(size: tuple[int, int]) -> int:
    pixels = size[0] * size[1]
    if min(size) < 1 or pixels > MAX_PIXELS:
        raise UserError(f"a mask has 1 to {MAX_PIXELS} pixels, got a size (h, w) of {size}")
    return pixels


def _parse(counts: str, pixels: int) -> Int64[np.ndarray, " runs"]:
    """The runs that compressed counts stand for; refuses what does not fill ``pixels``.

    The format (rleFrString in cocoapi's maskApi.c): 5 bits a character from "0" on, low bits first, bit 6 says that
    more follow, the last one's bit 5 is the sign; from the fourth number on each is the difference to the last but one.
    """
    text = counts.encode("ascii", "replace")
    if not text or text.translate(None, _CHARACTERS) or text[-1] >= _FIRST + 32:
        raise UserError(f"no mask has the run-length counts {_short(counts)}")
    characters = np.frombuffer(text, dtype=np.uint8) - _FIRST
    ends = np.flatnonzero(characters < 32)
    before = np.concatenate(([-1], ends[:-1]))
    lengths = ends - before
    longest = int(lengths.max())
    if longest > _LONGEST_NUMBER:
        raise UserError(f"no mask has the run-length counts {_short(counts)}")
    bits = characters & 31
    runs = (bits[ends] ^ 16).astype(np.int64) - 16  # the last character, its sign spread
    for step in range(1, longest):
        rows = np.flatnonzero(lengths > step)
        runs[rows] = runs[rows] * 32 + bits[ends[rows] - step]
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    if runs.min() < 0 or runs.max() > pixels or int(runs.sum()) != pixels:  # the largest first: a sum may overflow
        raise UserError(f"the run-length counts {_short(counts)} do not fill a mask of {pixels} pixels")
    return runs


def _join(runs: Sequence[int]) -> list[int]:
    """The same mask without empty runs, the first aside."""
    filled = [(index % 2, run) for index, run in enumerate(runs) if run]
    joined = [sum(run for _, run in group) for _, group in groupby(filled, key=lambda pair: pair[0])]
    return joined if filled[0][0] == 0 else [0, *joined]


def _from_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    """Their union, painted by pycocotools; it reserves memory by the length of the edges, so they are bounded first."""
    _pixels((height, width))
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise UserError(f"a polygon is a list of 3 or more pairs x, y, got {_short(polygon)}")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in polygon):
            raise UserError(f"a polygon holds finite numbers, got {_short(polygon)}")
        near = all(abs(x) <= 2 * width for x in polygon[::2]) and all(abs(y) <= 2 * height for y in polygon[1::2])
        if not near:
            raise UserError(f"a polygon lies far off its picture of {height} x {width}: {_short(polygon)}")
    if not polygons:
        return Rle.empty(height, width)
    painted = coco.merge(coco.frPyObjects(polygons, height, width))
    return Rle((height, width), painted["counts"].decode())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
