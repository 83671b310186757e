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
from itertools import chain, groupby
from typing import Any

import numpy as np
from jaxtyping import Float64
from pycocotools import mask as coco

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Mask
from sam4mllm.geometry.rle_parse import parse, short

# pycocotools' merge reserves 4 bytes a pixel up front and counts in 32 bits; Pillow refuses pictures of this size too
MAX_PIXELS = 2**28
Encoded = tuple[tuple[int, int], str]
"""The size (h, w) and the compressed counts of a mask, which nobody has looked at yet."""
_LOT = 64  # masks parsed at once: more of them leave the processor's cache


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
        runs = parse([self.counts], [_pixels(self.size)])
        if runs.loose.size:
            object.__setattr__(self, "counts", Rle.from_runs(runs.flat.tolist(), *self.size).counts)

    @classmethod
    def many(cls, masks: Sequence[Encoded]) -> list[Rle]:
        """From sizes and compressed counts, as one by one, but checked together in a fraction of the time.

        Raises:
            UserError: for the first size or counts that no mask can have.
        """
        lots = [masks[start : start + _LOT] for start in range(0, len(masks), _LOT)]
        return list(chain.from_iterable(map(_checked, lots)))

    @classmethod
    def from_mask(cls, mask: Mask) -> Rle:
        """The encoding of a dense mask."""
        height, width = mask.shape
        _pixels((height, width))
        return _sound((height, width), coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode())

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
        return _sound((height, width), encoded["counts"].decode())

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
                    raise UserError(f"the runs of a mask are whole numbers, got {short(runs)}")
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
        return cls(*size_and_counts(value))

    def to_json(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": "..."}``, as COCO and its tools read it."""
        return {"size": list(self.size), "counts": self.counts}

    @property
    def mask(self) -> Mask:
        """The dense mask, decoded anew at each call."""
        runs = parse([self.counts], [_pixels(self.size)]).flat
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


def size_and_counts(value: Any) -> Encoded:
    """What ``{"size": [h, w], "counts": "..."}`` holds, as `Rle` and `Rle.many` take it.

    Raises:
        UserError: for anything else.
    """
    try:  # a third of the time that a match statement takes, and this is asked of every prediction
        (height, width), counts = value["size"], value["counts"]
    except (TypeError, KeyError, ValueError):
        height = width = counts = None
    if type(height) is int and type(width) is int and type(counts) is str:
        return (height, width), counts
    raise UserError(f'a mask is {{"size": [h, w], "counts": "..."}}, got {short(value)}')


def union(rles: Sequence[Rle], height: int, width: int) -> Rle:
    """The union of masks of size (height, width): a pixel that several hold counts once; empty for no masks.

    Raises:
        UserError: for a mask of another size.
    """
    _same_size(rles, (height, width))
    if len(rles) == 1:
        return rles[0]
    return _merged(rles) if rles else Rle.empty(height, width)


def intersection(*rles: Rle) -> int:
    """How many pixels all of the masks hold, exactly; nothing is decoded.

    Raises:
        UserError: for masks of several sizes.
    """
    _same_size(rles, rles[0].size)
    # straight to the area: what pycocotools itself has encoded needs no second look
    return int(coco.area(coco.merge([rle.to_json() for rle in rles], intersect=True)))


def boxes(rles: Sequence[Rle]) -> Float64[np.ndarray, "n 4"]:
    """The tightest box around each mask by its edges, x0 y0 x1 y1; four zeros for an empty one."""
    found = np.asarray(coco.toBbox([rle.to_json() for rle in rles]), dtype=np.float64).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return np.where((found[:, 2:] > found[:, :2]).all(axis=1, keepdims=True), found, 0.0)


def covered_once(rles: Sequence[Rle], height: int, width: int) -> Rle:
    """The pixels that exactly one of the masks holds; empty for no masks.

    Raises:
        UserError: for a mask of another size.
    """
    _same_size(rles, (height, width))
    if len(rles) < 2:
        return union(rles, height, width)
    edges = [parse([rle.counts], [height * width]).flat.cumsum()[:-1] for rle in rles]
    places = np.concatenate(edges)
    steps = np.concatenate([1 - 2 * (np.arange(some.size) % 2) for some in edges])  # each mask begins off
    order = np.argsort(places, kind="stable")
    once = np.cumsum(steps[order]) == 1
    turns = np.flatnonzero(np.diff(once, prepend=False))
    ends = np.concatenate(([0], places[order][turns], [height * width]))
    return Rle.from_runs(np.diff(ends).tolist(), height, width)


def _sound(size: tuple[int, int], counts: str) -> Rle:
    """What is known to be sound already."""
    rle = object.__new__(Rle)
    object.__setattr__(rle, "size", size)
    object.__setattr__(rle, "counts", counts)
    return rle


def _checked(masks: Sequence[Encoded]) -> list[Rle]:
    runs = parse([counts for _, counts in masks], [_pixels(size) for size, _ in masks])
    rles = [_sound(size, counts) for size, counts in masks]
    for row in runs.loose.tolist():
        rles[row] = Rle(*masks[row])
    return rles


def _merged(rles: Sequence[Rle]) -> Rle:
    return _sound(rles[0].size, coco.merge([rle.to_json() for rle in rles])["counts"].decode())


def _same_size(rles: Sequence[Rle], size: tuple[int, int]) -> None:
    for rle in rles:
        if rle.size != size:
            raise UserError(f"masks of one picture have one size: got (h, w) = {rle.size} and {size}")


def _pixels(size: tuple[int, int]) -> int:
    pixels = size[0] * size[1]
    if min(size) < 1 or pixels > MAX_PIXELS:
        raise UserError(f"a mask has 1 to {MAX_PIXELS} pixels, got a size (h, w) of {size}")
    return pixels


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
            raise UserError(f"a polygon is a list of 3 or more pairs x, y, got {short(polygon)}")
        if not all(type(value) in (int, float) and abs(value) < math.inf for value in polygon):  # isfinite overflows
            raise UserError(f"a polygon holds finite numbers, got {short(polygon)}")
        near = all(abs(x) <= 2 * width for x in polygon[::2]) and all(abs(y) <= 2 * height for y in polygon[1::2])
        if not near:
            raise UserError(f"a polygon lies far off its picture of {height} x {width}: {short(polygon)}")
    if not polygons:
        return Rle.empty(height, width)
    painted = coco.merge(coco.frPyObjects(polygons, height, width))
    return Rle((height, width), painted["counts"].decode())
