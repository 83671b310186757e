"""OpenCV's GrabCut as a promptable segmenter: real masks from box and clicks, and no weights to fetch.

Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", 2004. It tells an
object from what surrounds it by colour alone and knows nothing of objects; it is for trying a model's prompts out
where no SAM is at hand, and for measuring whether points help.

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
from sam4mllm.geometry.prompts import Box, Image, Mask, Point, Prompt, box_iou, box_of
from sam4mllm.geometry.sampling import pixels
from sam4mllm.segmenters import ScoredMask, Takes, refuse_beyond

_MARGIN = 0.1
"""How much of the surroundings is looked at, as a share of the box's sides: a narrow ring, the local background."""
_RADIUS = 0.05
"""A click's disc, as a share of the box's longer side: large enough for its colours to count."""
_LEAST = 0.25
"""A cut that keeps less of the box than this has collapsed: objects fill half of their box on average."""

_OFF, _ON, _MAYBE = int(cv2.GC_BGD), int(cv2.GC_FGD), int(cv2.GC_PR_FGD)
_Labels: TypeAlias = UInt8[np.ndarray, "h w"]


class GrabCutSegmenter:
    """Cuts each object out of its box by colour.

    The box is a hard limit but for clicks beyond it: what lies outside is background, a disc around each positive click
    is object, around each negative one background (where both overlap, the negative wins), and the rest of the box is
    for GrabCut to tell. Where it finds nothing to go by (no background in sight, or less than a quarter of the box
    left) the answer is the box's interior, less the negative discs. Equal input gives equal masks.

    Args:
        size: the longer side, in pixels, to which a larger crop is shrunk before it is cut.
        iterations: of GrabCut. More fit its colours ever closer to what is most distinct in the box, a part as a rule.

    Raises:
        UserError: for a size or a number of iterations below 1.
    """

    takes = Takes()

    def __init__(self, size: int = 192, iterations: int = 1) -> None:
        if size < 1 or iterations < 1:
            raise UserError(f"grabcut needs a size and iterations of 1 or more, got {size} and {iterations}")
        self.size, self.iterations = size, iterations

    def embed(self, image: Image) -> GrabCutScene:
        """Keeps the picture: there is nothing to compute before a box is known."""
        return GrabCutScene(image, self.size, self.iterations)


class GrabCutScene:
    """A picture to cut objects out of."""

    def __init__(self, image: Image, size: int, iterations: int) -> None:
        self.image, self.size, self.iterations = image, size, iterations

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt; its score is the IoU of its own box with the prompted one, as a good mask fills its box.

        A box between pixel centres, or off the picture, counts as the nearest pixel; so no mask is empty but where a
        negative click says so.
        """
        refuse_beyond(GrabCutSegmenter.takes, prompts, "grabcut")
        return [self._cut(prompt) for prompt in prompts]

    def _cut(self, prompt: Prompt) -> ScoredMask:
        height, width = self.image.shape[:2]
        box = _holding_a_pixel(prompt.box, height, width)
        view = _View.around(box, prompt.points, height, width, self.size)
        labels = view.label(box, prompt.points)
        small = cv2.resize(self.image[view.rows, view.columns], labels.shape[::-1], interpolation=cv2.INTER_AREA)
        mask = np.zeros((height, width), dtype=bool)
        mask[view.rows, view.columns] = view.enlarge(_grab_cut(small, labels, self.iterations))
        _keep_to(mask, box, prompt.points, reach=max(1.0, _RADIUS * max(box.width, box.height)))
        found = box_of(mask)
        return ScoredMask(mask, box_iou(found, box) if found else 0.0)


@dataclass(frozen=True, slots=True)
class _View:
    """The part of a picture that one prompt needs, and its pixels after shrinking per original one."""

    rows: slice
    columns: slice
    scale: tuple[float, float]

    @classmethod
    def around(cls, box: Box, points: Sequence[Point], height: int, width: int, size: int) -> _View:
        """The box with its margin, at least a pixel, and the clicks beyond it."""
        across, down = max(1.0, _MARGIN * box.width), max(1.0, _MARGIN * box.height)
        xs = [box.x0 - across, box.x1 + across, *(edge for p in points for edge in (p.x - 1, p.x + 1))]
        ys = [box.y0 - down, box.y1 + down, *(edge for p in points for edge in (p.y - 1, p.y + 1))]
        whole = Box(min(xs), min(ys), max(xs), max(ys)).clip(width, height)
        left, top, right, bottom = *map(math.floor, whole.xyxy[:2]), *map(math.ceil, whole.xyxy[2:])
        shrink = min(1.0, size / max(right - left, bottom - top))
        scale = tuple(max(1, round(side * shrink)) / side for side in (right - left, bottom - top))
        return cls(slice(top, bottom), slice(left, right), (scale[0], scale[1]))

    def label(self, box: Box, points: Sequence[Point]) -> _Labels:
        """What GrabCut is told of each pixel."""
        height = round((self.rows.stop - self.rows.start) * self.scale[1])
        width = round((self.columns.stop - self.columns.start) * self.scale[0])
        labels = np.full((height, width), _OFF, dtype=np.uint8)
        (x0, y0), (x1, y1) = self._seen(box.x0, box.y0), self._seen(box.x1, box.y1)
        seen = _holding_a_pixel(Box(x0, y0, x1, y1), height, width)
        labels[pixels(seen, height, width)] = _MAYBE
        rows, columns = np.indices(labels.shape) + 0.5
        radius = max(1.0, _RADIUS * max(seen.width, seen.height))
        for point in sorted(points, key=lambda point: not point.positive):
            x, y = self._seen(point.x, point.y)
            labels[np.hypot(columns - x, rows - y) <= radius] = _ON if point.positive else _OFF
        return labels

    def enlarge(self, mask: Mask) -> Bool[np.ndarray, "height width"]:
        """A mask of the shrunk view at the view's own size, its stairs smoothed."""
        size = self.columns.stop - self.columns.start, self.rows.stop - self.rows.start
        return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)) >= 0.5

    def _seen(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.columns.start) * self.scale[0], (y - self.rows.start) * self.scale[1]


def _grab_cut(image: Image, labels: _Labels, iterations: int) -> Mask:
    """The object's pixels; the box's interior and the positive discs where the cut has nothing to go by."""
    inside: Mask = labels != _OFF
    if inside.all() or not inside.any():
        return inside
    cut = labels.copy()
    cv2.setRNGSeed(0)  # its colour clusters start from OpenCV's global random state
    try:
        cv2.grabCut(image, cut, None, _no_model(), _no_model(), iterations, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # fewer pixels than colour clusters
        return inside
    kept: Mask = np.isin(cut, (_ON, _MAYBE))
    return kept if np.count_nonzero(kept) >= _LEAST * np.count_nonzero(inside) else inside


def _no_model() -> Float[np.ndarray, "1 65"]:
    return np.zeros((1, 65))


def _keep_to(mask: Mask, box: Box, points: Sequence[Point], reach: float) -> None:
    """Take back, in place, what enlarging spilled over the box, the places of positive clicks aside."""
    allowed = np.zeros_like(mask)
    allowed[pixels(box, *mask.shape)] = True
    for point in points:
        if point.positive:
            around = Box(point.x - reach, point.y - reach, point.x + reach, point.y + reach)
            allowed[pixels(around, *mask.shape)] = True
    mask &= allowed


def _holding_a_pixel(box: Box, height: int, width: int) -> Box:
    """The box within a picture, widened to the nearest pixel along a side that holds no pixel's centre."""
    inside = box.clip(width, height)
    rows, columns = pixels(inside, height, width)
    x0, x1 = (inside.x0, inside.x1) if columns.start < columns.stop else _pixel_at(inside.x0, inside.x1, width)
    y0, y1 = (inside.y0, inside.y1) if rows.start < rows.stop else _pixel_at(inside.y0, inside.y1, height)
    return Box(x0, y0, x1, y1)


def _pixel_at(start: float, stop: float, side: int) -> tuple[float, float]:
    """The pixel that holds the middle of an interval, or the last one."""
    index = float(min(math.floor((start + stop) / 2), side - 1))
    return index, index + 1.0
