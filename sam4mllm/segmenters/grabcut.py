"""OpenCV's GrabCut as a promptable segmenter: masks from boxes and points without weights.

Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", 2004. GrabCut
separates an object from its surroundings by colour alone. Use it to try a model's prompts without a SAM, and to
measure whether points help.

The constants were chosen on 100 COCO masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Image, Mask, Point, Prompt, bounding_box, box_iou
from sam4mllm.geometry.sampling import pixels
from sam4mllm.segmenters import Capabilities, ScoredMask, check_supported

_MARGIN = 0.1
"""Width of the surroundings that are used as background, as a fraction of the box's sides: a narrow ring."""
_RADIUS = 0.05
"""Radius of a point's disc, as a fraction of the box's longer side: large enough for its colours to count."""
_MIN_COVERED = 0.25
"""A result below this fraction of the box counts as collapsed; objects fill half of their box on average."""

_OFF, _ON, _MAYBE = int(cv2.GC_BGD), int(cv2.GC_FGD), int(cv2.GC_PR_FGD)
_Labels: TypeAlias = UInt8[np.ndarray, "h w"]


class GrabCutSegmenter:
    """Segments each object in its box by colour.

    Outside the box everything is background, except around positive points. A disc around a positive point is object, a
    disc around a negative point is background, and the negative one wins where they overlap. GrabCut decides about the
    rest of the box. If it has no background to compare with, or its result covers less than a quarter of the box, the
    mask is the interior of the box without the negative discs. The result is deterministic.

    Args:
        size: longer side in pixels to which a larger crop is reduced.
        iterations: number of GrabCut iterations. With more, the mask tends to shrink to the most distinct colours,
            often only a part of the object.

    Raises:
        UserError: if the size or the number of iterations is below 1.
    """

    capabilities = Capabilities()

    def __init__(self, size: int = 192, iterations: int = 1) -> None:
        if size < 1 or iterations < 1:
            raise UserError(f"grabcut needs a size and iterations of 1 or more, got {size} and {iterations}")
        self.size, self.iterations = size, iterations

    def embed(self, image: Image) -> GrabCutScene:
        """The image as a scene. Nothing is computed before a box is known."""
        return GrabCutScene(image, self.size, self.iterations)


class GrabCutScene:
    """An image to segment with GrabCut."""

    def __init__(self, image: Image, size: int, iterations: int) -> None:
        self.image, self.size, self.iterations = image, size, iterations

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt. The score is the IoU of the mask's box with the prompt's box: a good mask fills it.

        A box that contains no pixel centre is widened to the nearest pixel; a mask is therefore empty only if negative
        points remove everything.
        """
        check_supported(GrabCutSegmenter.capabilities, prompts, "grabcut")
        return [self._cut(prompt) for prompt in prompts]

    def _cut(self, prompt: Prompt) -> ScoredMask:
        height, width = self.image.shape[:2]
        box = _widen_to_a_pixel(prompt.extent, height, width)
        view = _View.around(box, prompt.points, height, width, self.size)
        labels = view.label(box, prompt.points)
        small = cv2.resize(self.image[view.rows, view.columns], labels.shape[::-1], interpolation=cv2.INTER_AREA)
        mask = np.zeros((height, width), dtype=bool)
        mask[view.rows, view.columns] = view.enlarge(_run_grab_cut(small, labels, self.iterations))
        _keep_to(mask, box, prompt.points, reach=max(1.0, _RADIUS * max(box.width, box.height)))
        mask_box = bounding_box(mask)
        return ScoredMask(mask, box_iou(mask_box, box) if mask_box else 0.0)


@dataclass(frozen=True, slots=True)
class _View:
    """The crop of the image that one prompt needs, and its scale: pixels after reduction per original pixel."""

    rows: slice
    columns: slice
    scale: tuple[float, float]

    @classmethod
    def around(cls, box: Box, points: Sequence[Point], height: int, width: int, size: int) -> _View:
        """The box with a margin of at least one pixel, and the points outside it."""
        margin_x, margin_y = max(1.0, _MARGIN * box.width), max(1.0, _MARGIN * box.height)
        xs = [box.x0 - margin_x, box.x1 + margin_x, *(edge for point in points for edge in (point.x - 1, point.x + 1))]
        ys = [box.y0 - margin_y, box.y1 + margin_y, *(edge for point in points for edge in (point.y - 1, point.y + 1))]
        crop = Box(min(xs), min(ys), max(xs), max(ys)).clip(width, height)
        remaining, top, right, bottom = *map(math.floor, crop.xyxy[:2]), *map(math.ceil, crop.xyxy[2:])
        shrink = min(1.0, size / max(right - remaining, bottom - top))
        scale = tuple(max(1, round(side * shrink)) / side for side in (right - remaining, bottom - top))
        return cls(slice(top, bottom), slice(remaining, right), (scale[0], scale[1]))

    def label(self, box: Box, points: Sequence[Point]) -> _Labels:
        """The GrabCut label of each pixel of the reduced crop."""
        height = round((self.rows.stop - self.rows.start) * self.scale[1])
        width = round((self.columns.stop - self.columns.start) * self.scale[0])
        labels = np.full((height, width), _OFF, dtype=np.uint8)
        (x0, y0), (x1, y1) = self._scaled(box.x0, box.y0), self._scaled(box.x1, box.y1)
        scaled_box = _widen_to_a_pixel(Box(x0, y0, x1, y1), height, width)
        labels[pixels(scaled_box, height, width)] = _MAYBE
        rows, columns = np.indices(labels.shape) + 0.5
        radius = max(1.0, _RADIUS * max(scaled_box.width, scaled_box.height))
        for point in sorted(points, key=lambda point: not point.positive):
            x, y = self._scaled(point.x, point.y)
            labels[np.hypot(columns - x, rows - y) <= radius] = _ON if point.positive else _OFF
        return labels

    def enlarge(self, mask: Mask) -> Bool[np.ndarray, "height width"]:
        """A mask of the reduced crop at the crop's own size, with smoothed edges."""
        size = self.columns.stop - self.columns.start, self.rows.stop - self.rows.start
        return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)) >= 0.5

    def _scaled(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.columns.start) * self.scale[0], (y - self.rows.start) * self.scale[1]


def _run_grab_cut(image: Image, labels: _Labels, iterations: int) -> Mask:
    """The object's pixels. If GrabCut has nothing to compare, they are the box's interior and the positive discs."""
    inside: Mask = labels != _OFF
    if inside.all() or not inside.any():
        return inside
    result = labels.copy()
    cv2.setRNGSeed(0)  # the colour clusters are initialised from OpenCV's global random state
    try:
        cv2.grabCut(image, result, None, _no_model(), _no_model(), iterations, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # fewer pixels than colour clusters
        return inside
    object_pixels: Mask = np.isin(result, (_ON, _MAYBE))
    return object_pixels if np.count_nonzero(object_pixels) >= _MIN_COVERED * np.count_nonzero(inside) else inside


def _no_model() -> Float[np.ndarray, "1 65"]:
    return np.zeros((1, 65))


def _keep_to(mask: Mask, box: Box, points: Sequence[Point], reach: float) -> None:
    """Clear, in place, what enlarging added outside the box, except around positive points."""
    allowed = np.zeros_like(mask)
    allowed[pixels(box, *mask.shape)] = True
    for point in points:
        if point.positive:
            around = Box(point.x - reach, point.y - reach, point.x + reach, point.y + reach)
            allowed[pixels(around, *mask.shape)] = True
    mask &= allowed


def _widen_to_a_pixel(box: Box, height: int, width: int) -> Box:
    """The box clipped to the image. A side that contains no pixel centre is widened to the nearest pixel."""
    inside = box.clip(width, height)
    rows, columns = pixels(inside, height, width)
    x0, x1 = (inside.x0, inside.x1) if columns.start < columns.stop else _pixel_at(inside.x0, inside.x1, width)
    y0, y1 = (inside.y0, inside.y1) if rows.start < rows.stop else _pixel_at(inside.y0, inside.y1, height)
    return Box(x0, y0, x1, y1)


def _pixel_at(start: float, stop: float, side: int) -> tuple[float, float]:
    """The pixel that contains the middle of an interval, or the last pixel."""
    index = float(min(math.floor((start + stop) / 2), side - 1))
    return index, index + 1.0
