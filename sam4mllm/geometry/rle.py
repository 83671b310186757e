"""Masks in COCO run-length encoding (RLE), and their areas, unions and intersections without decoding.

Runs go down the columns and start with zeros: ``[2, 1, 3]`` on a 3 x 2 mask (h x w) sets only the lower left pixel. An
`Rle` is always valid: its runs are checked before they reach the C code of pycocotools, which does not check them.

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

# pycocotools' merge allocates 4 bytes per pixel and counts in 32 bits; Pillow refuses images of this size too
MAX_PIXELS = 2**28
Encoded = tuple[tuple[int, int], str]
"""The size (h, w) and the compressed counts of a mask, not validated yet."""
_CHUNK = 64  # masks parsed at once: larger chunks exceed the processor's cache


@dataclass(frozen=True, slots=True)
class Rle:
    """A binary mask of ``size`` (h, w) in COCO's compressed run-length encoding, always valid.

    Only the first run can be empty. If ``counts`` has other empty runs, the value holds equivalent counts with the runs
    around them joined, because pycocotools' merge stops at empty runs.

    Raises:
        UserError: if the size or the counts are invalid.
    """

    size: tuple[int, int]
    counts: str

    def __post_init__(self) -> None:
        runs = parse([self.counts], [_pixel_count(self.size)])
        if runs.loose.size:
            object.__setattr__(self, "counts", Rle.from_runs(runs.flat.tolist(), *self.size).counts)

    @classmethod
    def many(cls, masks: Sequence[Encoded]) -> list[Rle]:
        """Encodings from sizes and compressed counts, like one call each but validated in batches, which is faster.

        Raises:
            UserError: if a size or counts are invalid.
        """
        chunks = [masks[start : start + _CHUNK] for start in range(0, len(masks), _CHUNK)]
        return list(chain.from_iterable(map(_validate, chunks)))

    @classmethod
    def from_mask(cls, mask: Mask) -> Rle:
        """The encoding of a dense mask."""
        height, width = mask.shape
        _pixel_count((height, width))
        return _valid_rle((height, width), coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode())

    @classmethod
    def empty(cls, height: int, width: int) -> Rle:
        """The mask of this size without any pixel set."""
        return cls.from_runs([height * width], height, width)

    @classmethod
    def from_runs(cls, runs: Sequence[int], height: int, width: int) -> Rle:
        """From uncompressed runs that start with zeros, as in COCO's crowd annotations.

        Raises:
            UserError: if a run is negative or the runs do not sum to height x width.
        """
        pixels = _pixel_count((height, width))
        if min(runs, default=-1) < 0 or sum(runs) != pixels:
            raise UserError(f"the runs of a mask of {height} x {width} must be 0 or more and sum to {pixels}")
        joined = _join(runs)
        encoded = coco.frPyObjects({"size": [height, width], "counts": joined}, height, width)
        return _valid_rle((height, width), encoded["counts"].decode())

    @classmethod
    def from_coco(cls, segmentation: Any, height: int, width: int) -> Rle:
        """From the ``segmentation`` of a COCO annotation: polygons, or the runs of a crowd, compressed or not.

        Args:
            segmentation: ``[[x, y, x, y, ...], ...]`` (pycocotools rasterises their union) or
                ``{"size": [h, w], "counts": [...] or "..."}``. An empty list gives an empty mask.
            height: height of the image, in pixels.
            width: width of the image, in pixels.

        Raises:
            UserError: if the segmentation has another form, or its size is not that of the image.
        """
        if isinstance(segmentation, list):
            return _from_polygons(segmentation, height, width)
        match segmentation:
            case {"size": [int(h), int(w)], "counts": [*runs]}:
                if not all(type(run) is int for run in runs):
                    raise UserError(f"the runs of a mask must be integers, got {short(runs)}")
                rle = cls.from_runs(runs, h, w)
            case _:
                rle = cls.from_json(segmentation)
        _check_size([rle], (height, width))
        return rle

    @classmethod
    def from_json(cls, value: Any) -> Rle:
        """From ``{"size": [h, w], "counts": "..."}``.

        Raises:
            UserError: if the value has another form.
        """
        return cls(*size_and_counts(value))

    def to_json(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": "..."}``, the format of COCO's tools."""
        return {"size": list(self.size), "counts": self.counts}

    @property
    def mask(self) -> Mask:
        """The dense mask; every access decodes it again."""
        runs = parse([self.counts], [_pixel_count(self.size)]).flat
        return np.ascontiguousarray(np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(self.size, order="F"))

    @property
    def area(self) -> int:
        """The number of pixels set."""
        return int(coco.area(self.to_json()))

    @property
    def box(self) -> Box | None:
        """The tightest box around the mask, along pixel edges; None for an empty mask."""
        x, y, width, height = map(float, coco.toBbox(self.to_json()))
        return Box(x, y, x + width, y + height) if width and height else None


def size_and_counts(value: Any) -> Encoded:
    """The values of ``{"size": [h, w], "counts": "..."}``, as arguments for `Rle` and `Rle.many`.

    Raises:
        UserError: if the value has another form.
    """
    try:  # takes a third of the time of a match statement, and this runs for every prediction
        (height, width), counts = value["size"], value["counts"]
    except (TypeError, KeyError, ValueError):
        height = width = counts = None
    if type(height) is int and type(width) is int and type(counts) is str:
        return (height, width), counts
    raise UserError(f'a mask must be {{"size": [h, w], "counts": "..."}}, got {short(value)}')


def union(rles: Sequence[Rle], height: int, width: int) -> Rle:
    """The union of masks of size (height, width); empty if there are no masks.

    Raises:
        UserError: if a mask has another size.
    """
    _check_size(rles, (height, width))
    if len(rles) < 2:
        return rles[0] if rles else Rle.empty(height, width)
    # no validation here: pycocotools itself encodes the merged mask
    return _valid_rle((height, width), coco.merge([rle.to_json() for rle in rles])["counts"].decode())


def intersection(*rles: Rle) -> int:
    """The number of pixels that all of the masks share, computed without decoding.

    Raises:
        UserError: if the masks differ in size.
    """
    _check_size(rles, rles[0].size)
    # no validation here: pycocotools itself has encoded the merged mask
    return int(coco.area(coco.merge([rle.to_json() for rle in rles], intersect=True)))


def boxes(rles: Sequence[Rle]) -> Float64[np.ndarray, "n 4"]:
    """The tightest box around each mask, as edges x0 y0 x1 y1; four zeros for an empty mask."""
    edges = np.asarray(coco.toBbox([rle.to_json() for rle in rles]), dtype=np.float64).reshape(-1, 4)
    edges[:, 2:] += edges[:, :2]
    return np.where((edges[:, 2:] > edges[:, :2]).all(axis=1, keepdims=True), edges, 0.0)


def exclusive_union(rles: Sequence[Rle], height: int, width: int) -> Rle:
    """The pixels that belong to exactly one of the masks; empty if there are no masks.

    Raises:
        UserError: if a mask has another size.
    """
    _check_size(rles, (height, width))
    if len(rles) < 2:
        return union(rles, height, width)
    edges = [parse([rle.counts], [height * width]).flat.cumsum()[:-1] for rle in rles]
    positions = np.concatenate(edges)
    steps = np.concatenate([1 - 2 * (np.arange(places.size) % 2) for places in edges])  # each mask starts with zeros
    order = np.argsort(positions, kind="stable")
    once = np.cumsum(steps[order]) == 1
    changes = np.flatnonzero(np.diff(once, prepend=False))
    ends = np.concatenate(([0], positions[order][changes], [height * width]))
    return Rle.from_runs(np.diff(ends).tolist(), height, width)


def _valid_rle(size: tuple[int, int], counts: str) -> Rle:
    """An `Rle` from counts that are already validated; skips the check of the constructor."""
    rle = object.__new__(Rle)
    object.__setattr__(rle, "size", size)
    object.__setattr__(rle, "counts", counts)
    return rle


def _validate(masks: Sequence[Encoded]) -> list[Rle]:
    runs = parse([counts for _, counts in masks], [_pixel_count(size) for size, _ in masks])
    rles = [_valid_rle(size, counts) for size, counts in masks]
    for row in runs.loose.tolist():
        rles[row] = Rle(*masks[row])
    return rles


def _check_size(rles: Sequence[Rle], size: tuple[int, int]) -> None:
    for rle in rles:
        if rle.size != size:
            raise UserError(f"masks of one image must have the same size, got (h, w) = {rle.size} and {size}")


def _pixel_count(size: tuple[int, int]) -> int:
    pixels = size[0] * size[1]
    if min(size) < 1 or pixels > MAX_PIXELS:
        raise UserError(f"a mask must have 1 to {MAX_PIXELS} pixels, got a size (h, w) of {size}")
    return pixels


def _join(runs: Sequence[int]) -> list[int]:
    """Equivalent runs without empty runs, except possibly the first."""
    filled = [(index % 2, run) for index, run in enumerate(runs) if run]
    joined = [sum(run for _, run in group) for _, group in groupby(filled, key=lambda pair: pair[0])]
    return joined if filled[0][0] == 0 else [0, *joined]


def _from_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    """The union of the polygons. Coordinates are bounded first, as pycocotools allocates memory by length of edges."""
    _pixel_count((height, width))
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise UserError(f"a polygon must be a list of 3 or more pairs x, y, got {short(polygon)}")
        # math.isfinite raises for huge integers
        if not all(type(value) in (int, float) and abs(value) < math.inf for value in polygon):
            raise UserError(f"a polygon must have finite coordinates, got {short(polygon)}")
        if max(map(abs, polygon[::2])) > 2 * width or max(map(abs, polygon[1::2])) > 2 * height:
            raise UserError(f"a polygon is far outside its image of {height} x {width}: {short(polygon)}")
    if not polygons:
        return Rle.empty(height, width)
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return Rle((height, width), merged["counts"].decode())
