"""Boxes, points, prompts and masks, in continuous pixel coordinates of the original image.

Pixel (row ``i``, column ``j``) covers ``[j, j + 1) x [i, i + 1)``; its centre is ``(j + .5, i + .5)``. A `Box` holds
its edges as xyxy, half-open. A `Point` is any position. A `Frame` converts between these coordinates and those of the
image that a model sees.

    >>> Prompt(Box(12.0, 7.5, 90.0, 64.0), (Point(40.5, 30.5), Point(14.5, 9.5, positive=False)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

Image: TypeAlias = UInt8[np.ndarray, "h w 3"]
Mask: TypeAlias = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box, given by its edges in pixels of the original image: ``x0 <= x1`` and ``y0 <= y1``.

    Raises:
        ValueError: if the edges are out of order or not finite.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x0, self.y0, self.x1, self.y1))):
            raise ValueError(f"a box needs finite edges, got {self.xyxy}")
        if self.x0 > self.x1 or self.y0 > self.y1:
            raise ValueError(f"a box needs x0 <= x1 and y0 <= y1, got {self.xyxy}")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return self.width * self.height

    def clip(self, width: float, height: float) -> Box:
        """This box clipped to an image of ``width`` x ``height`` pixels; it may become empty, but never inverted."""
        x0, x1 = (min(max(x, 0.0), width) for x in (self.x0, self.x1))
        y0, y1 = (min(max(y, 0.0), height) for y in (self.y0, self.y1))
        return Box(x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class Point:
    """A point in pixels of the original image; ``positive`` is its label, true for a point on the object.

    Raises:
        ValueError: if a coordinate is not finite.
    """

    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise ValueError(f"a point needs finite coordinates, got ({self.x}, {self.y})")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One object's prompt: a box, or points, or both.

    Raises:
        ValueError: without a box, if no point is positive.
    """

    box: Box | None
    points: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if self.box is None and not any(point.positive for point in self.points):
            raise ValueError("a prompt needs a box or a positive point")

    @property
    def extent(self) -> Box:
        """The box; without a box, the bounding box of the positive points, which may be empty."""
        if self.box is not None:
            return self.box
        xs, ys = zip(*((point.x, point.y) for point in self.points if point.positive), strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image is mapped to a model's input: original pixels times ``scale`` plus ``offset``, on a canvas.

    Attributes:
        image: (width, height) of the original image, in pixels.
        canvas: (width, height) of the model's input, in the model's pixels. If a model writes coordinates relative to
            "the image", they are relative to this canvas.
        scale: model pixels per original pixel, along x and y.
        offset: position of the original image's upper left corner on the canvas, in model pixels.
    """

    image: tuple[int, int]
    canvas: tuple[float, float]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def unscaled(cls, width: int, height: int) -> Frame:
        """The original image as the canvas, for models that squash or tile it and write coordinates as fractions."""
        return cls((width, height), (float(width), float(height)))

    @classmethod
    def resized(cls, width: int, height: int, to: tuple[float, float]) -> Frame:
        """The image resized to ``to`` (width, height), for models that write coordinates in pixels of their input."""
        return cls((width, height), to, (to[0] / width, to[1] / height))

    @classmethod
    def padded(cls, width: int, height: int) -> Frame:
        """The image centred in a square of its longer side; an odd pixel of padding is at the right or the bottom."""
        side = max(width, height)
        offset = float((side - width) // 2), float((side - height) // 2)
        return cls((width, height), (float(side), float(side)), offset=offset)

    def to_model(self, x: float, y: float) -> tuple[float, float]:
        """Convert a position from pixels of the original image to the model's pixels."""
        return x * self.scale[0] + self.offset[0], y * self.scale[1] + self.offset[1]

    def to_image(self, u: float, v: float) -> tuple[float, float]:
        """Convert a position from the model's pixels to the original image; positions on padding end up outside it."""
        return (u - self.offset[0]) / self.scale[0], (v - self.offset[1]) / self.scale[1]


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1; 0 if both are empty."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    intersection = max(width, 0.0) * max(height, 0.0)
    union_area = a.area + b.area - intersection
    return intersection / union_area if union_area > 0 else 0.0


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks of the same shape, 0..1; 1 if both are empty (the convention of GRES)."""
    union_area = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union_area if union_area else 1.0


def bounding_box(mask: Mask) -> Box | None:
    """The tightest box around a mask, along pixel edges; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def union(masks: Sequence[Mask], height: int, width: int) -> Mask:
    """The union of masks of shape (height, width); all false if there are no masks."""
    merged = np.zeros((height, width), dtype=bool)
    for mask in masks:
        merged |= mask
    return merged


def is_on_mask(mask: Mask, x: float, y: float) -> bool:
    """Whether the pixel that contains position (x, y) belongs to the mask; false for positions outside the image."""
    row, column = math.floor(y), math.floor(x)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])
