"""Boxes, points and masks in one frame: continuous coordinates of the original image.

Pixel (row ``i``, column ``j``) covers ``[j, j + 1) x [i, i + 1)`` and its centre is ``(j + .5, i + .5)``. A `Box` is
xyxy by its edges, half-open; a `Point` is continuous. Knows nothing of models: a model's own frame is a `Frame`, and
the conversion happens at that model's door.

    >>> Prompt(Box(12.0, 7.5, 90.0, 64.0), (Point(40.5, 30.5), Point(14.5, 9.5, positive=False)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

Image: TypeAlias = UInt8[np.ndarray, "h w 3"]
Mask: TypeAlias = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box by its edges, in pixels of the original image: ``x0 <= x1`` and ``y0 <= y1``.

    Raises:
        ValueError: for edges out of order or not finite.
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
        """This box cut to an image of ``width`` x ``height``; it may become empty, never inverted."""
        x0, x1 = (min(max(x, 0.0), width) for x in (self.x0, self.x1))
        y0, y1 = (min(max(y, 0.0), height) for y in (self.y0, self.y1))
        return Box(x0, y0, x1, y1)


@dataclass(frozen=True, slots=True)
class Point:
    """A click, in pixels of the original image; ``positive`` says that it lies on the object."""

    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise ValueError(f"a point needs finite coordinates, got ({self.x}, {self.y})")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a segmenter is told of one object: its box, and clicks on and off it."""

    box: Box
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """How a model sees a picture: original pixels times ``scale`` plus ``offset``, on a canvas.

    Attributes:
        image: (width, height) of the original image, in pixels.
        canvas: (width, height) of what the model sees, in the model's pixels; coordinates relative to "the image" in
            the model's words are relative to this.
        scale: model pixels per original pixel, along x and y.
        offset: where the original's upper left corner lies on the canvas, in model pixels.
    """

    image: tuple[int, int]
    canvas: tuple[float, float]
    scale: tuple[float, float] = field(default=(1.0, 1.0))
    offset: tuple[float, float] = field(default=(0.0, 0.0))

    @classmethod
    def whole(cls, width: int, height: int) -> Frame:
        """The picture itself: models that squash or tile it, and speak in fractions of it."""
        return cls((width, height), (float(width), float(height)))

    @classmethod
    def resized(cls, width: int, height: int, to: tuple[float, float]) -> Frame:
        """The picture resized to ``to`` (width, height): models that speak in pixels of their own input."""
        return cls((width, height), to, (to[0] / width, to[1] / height))

    @classmethod
    def padded(cls, width: int, height: int) -> Frame:
        """The picture in the middle of a square of its longer side; an odd pixel goes to the right or below."""
        side = max(width, height)
        offset = float((side - width) // 2), float((side - height) // 2)
        return cls((width, height), (float(side), float(side)), offset=offset)

    def seen(self, x: float, y: float) -> tuple[float, float]:
        """A place of the original image, in the model's pixels."""
        return x * self.scale[0] + self.offset[0], y * self.scale[1] + self.offset[1]

    def original(self, u: float, v: float) -> tuple[float, float]:
        """A place in the model's pixels, in the original image; it may lie outside of it (on padding)."""
        return (u - self.offset[0]) / self.scale[0], (v - self.offset[1]) / self.scale[1]


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1; 0 when both are empty."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    intersection = max(width, 0.0) * max(height, 0.0)
    whole = a.area + b.area - intersection
    return intersection / whole if whole > 0 else 0.0


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks of one shape, 0..1; 1 when both are empty (GRES's convention)."""
    whole = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / whole if whole else 1.0


def box_of(mask: Mask) -> Box | None:
    """The tightest box around a mask, by pixel edges; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def union(masks: Sequence[Mask], height: int, width: int) -> Mask:
    """The union of masks of shape (height, width), clipped to one as a mask is; all false for no masks."""
    whole = np.zeros((height, width), dtype=bool)
    for mask in masks:
        whole |= mask
    return whole


def on_mask(mask: Mask, x: float, y: float) -> bool:
    """Whether the pixel that holds the place (x, y) belongs to the mask; places off the image do not."""
    row, column = math.floor(y), math.floor(x)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])
