"""Places figures: anywhere, in the hole of another figure, or in pairs that share a box, all sufficiently visible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int8

from sam4mllm.geometry.prompts import Box, Mask, bounding_box, box_iou
from sam4mllm.synthetic.figures import (
    BORES,
    COLOURS,
    HALF,
    HOLLOW,
    RADII,
    SHAPES,
    TURNS,
    Figure,
    Pose,
    choose,
    rasterise,
)

SAME_BOX_IOU = 0.6  # boxes with at least this IoU count as indistinguishable
MIN_VISIBLE = 0.4  # the least visible fraction of a figure
TRIES = 12
_FRONTS = {
    "ring": ("circle", "cross"),
    "frame": ("circle", "cross", "horseshoe"),
    "horseshoe": ("circle",),
    "square": ("cross", "ring"),
    "circle": ("cross", "triangle"),
    "cross": ("ring",),
    "bar": ("bar",),
}
TWINS = tuple((behind, front) for behind, fronts in _FRONTS.items() for front in fronts)
"""Shapes (behind, in front) that can share a box while both stay visible."""
THIN = (0.78, 0.86)  # hole radius as a fraction of the radius, for a hole that a figure fills


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFigure:
    """A placed figure with all of its pixels, regardless of figures that cover it."""

    pose: Pose
    colour: str
    size: str
    full: Mask
    hole: Mask | None

    @property
    def box(self) -> Box:
        """The tightest box around ``full``."""
        box = bounding_box(self.full)
        assert box is not None  # a figure has a radius of several pixels and is inside the image
        return box


class Canvas:
    """Places figures one after another; each may cover parts of the earlier ones.

    Attributes:
        placed: the figures placed so far, in painting order.
        owner: index of the visible figure at each pixel, -1 for the background.
    """

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.side, self.rng = side, rng
        self.placed: list[PlacedFigure] = []
        self.owner: Int8[np.ndarray, "s s"] = np.full((side, side), -1, dtype=np.int8)

    def fill(self, count: int, twins: float, nested: float) -> None:
        """Place up to ``count`` figures.

        With probability ``twins`` the first two share a box; with probability ``nested`` the second is in the hole of
        the first. A count of 1 has neither.
        """
        how = self.rng.random()
        if count >= 2 and how < twins + nested:
            for _ in range(TRIES):
                if self.place(self.twins() if how < twins else self.nest(), same_box=how < twins):
                    break
        for _ in range(TRIES * count):
            if len(self.placed) >= count:
                return
            self.place([self.random_figure()])

    def place(self, news: Sequence[tuple[Pose, str]], same_box: bool = False) -> bool:
        """Place figures (pose, size). Returns false, without a change, if a figure would not be visible enough.

        It also returns false if a figure would cover one of the same colour, or, with ``same_box``, if the visible
        boxes of the two new figures differ.
        """
        placed, owner = list(self.placed), self.owner.copy()
        for pose, size in news:
            full, hole = rasterise(pose, self.side)
            colour = self.colour(placed, fresh=len(news) > 1)
            if any(placed[under].colour == colour for under in np.unique(owner[full]) if under >= 0):
                return False  # the outline between them would be invisible
            owner[full] = len(placed)
            placed.append(PlacedFigure(pose, colour, size, full, hole))
        counts = np.bincount((owner + 1).ravel(), minlength=len(placed) + 1)[1:]
        if any(
            count < MIN_VISIBLE * np.count_nonzero(figure.full) for count, figure in zip(counts, placed, strict=True)
        ):
            return False
        if same_box and not _same_box(owner == len(placed) - 2, owner == len(placed) - 1):
            return False
        self.placed, self.owner = placed, owner
        return True

    def random_figure(self) -> tuple[Pose, str]:
        """A figure at a random position, sometimes with the shape of an earlier figure."""
        size = "small" if self.rng.random() < 0.5 else "big"
        if self.placed and self.rng.random() < 0.35:
            shape = choose(self.placed, self.rng).pose.shape
        else:
            shape = choose(SHAPES, self.rng)
        return self.pose(shape, self.rng.uniform(*RADII[size])), size

    def pose(self, shape: str, share: float) -> Pose:
        """A shape at a random position and angle; ``share`` is its radius as a fraction of the image side."""
        radius = share * self.side
        x, y = self.rng.uniform(1.06 * radius, self.side - 1.06 * radius, 2)
        turn = math.radians(TURNS.get(shape, 0.0))
        bore = self.rng.uniform(*BORES.get(shape, (1.0, 1.0)))
        return Pose(shape, float(x), float(y), radius, self.rng.uniform(-turn, turn), bore)

    def twins(self) -> list[tuple[Pose, str]]:
        """Two concentric figures; the second has the size of the first or of its hole."""
        behind, front = choose(TWINS, self.rng)
        first = self.pose(behind, self.rng.uniform(0.22, RADII["big"][1]))
        if behind == "bar":
            first = replace(first, angle=math.radians(self.rng.uniform(25, 65)))
            return [(first, "big"), (replace(first, angle=-first.angle), "big")]
        if behind in HOLLOW:
            first = replace(first, bore=self.rng.uniform(*THIN))
        second = self.pose(front, self.rng.uniform(0.93, 1.0) * _room(first) / self.side)
        angle = first.angle if behind in ("square", "frame") and front == "cross" else second.angle
        return [(first, "big"), (replace(second, x=first.x, y=first.y, angle=angle), "big")]

    def nest(self) -> list[tuple[Pose, str]]:
        """A small figure in the hole of a big one."""
        hollow = choose(HOLLOW, self.rng)
        outer = replace(self.pose(hollow, self.rng.uniform(0.24, RADII["big"][1])), bore=self.rng.uniform(*THIN))
        inner = self.pose(choose(SHAPES, self.rng), self.rng.uniform(0.09, 0.12))
        slack = max(_room(outer) - 1.1 * inner.radius, 0.0) * 0.7
        shift_x, shift_y = self.rng.uniform(-slack, slack, 2)
        return [(outer, "big"), (replace(inner, x=outer.x + float(shift_x), y=outer.y + float(shift_y)), "small")]

    def colour(self, placed: Sequence[PlacedFigure], fresh: bool) -> str:
        """A random colour; an unused one if ``fresh``, otherwise sometimes one of an earlier figure."""
        used = [figure.colour for figure in placed]
        if used and not fresh and self.rng.random() < 0.35:
            return choose(used, self.rng)
        return choose([colour for colour in COLOURS if not (fresh and colour in used)], self.rng)

    def figures(self) -> tuple[Figure, ...]:
        """The placed figures with the masks of their visible pixels."""
        return tuple(
            Figure(item.pose.shape, item.colour, item.size, depth, self.owner == depth, item.full, item.hole, item.box)
            for depth, item in enumerate(self.placed)
        )


def _room(pose: Pose) -> float:
    """The radius, in pixels, of a figure that shares its box with this one; for a hollow figure, that of its hole."""
    match pose.shape:
        case "ring" | "horseshoe":
            return pose.radius * pose.bore
        case "frame":
            return pose.radius * pose.bore * HALF
        case "square":
            return pose.radius * HALF
    return pose.radius * 0.97


def _same_box(first: Mask, second: Mask) -> bool:
    """Whether the boxes of two masks are indistinguishable; false if a mask is empty."""
    a, b = bounding_box(first), bounding_box(second)
    return a is not None and b is not None and box_iou(a, b) >= SAME_BOX_IOU
