"""Adaptive PQPP: a box, a coarse grid of points inside it, then finer points where the labels are uncertain.

This is the subdivision of PointRend (Kirillov et al., CVPR 2020, section 3.1) with an MLLM as the point head. The
probabilities on a grid are interpolated to a grid three times as fine, which contains all points of the coarser one.
The model classifies the least certain points. This repeats until the budget is used up or no point is uncertain.
Questions therefore concentrate where neighbouring answers differ or are uncertain. Outside the box the answer counts as
a certain "no".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import Float

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point
from sam4mllm.geometry.sampling import R2_STEPS
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import PointAnswer, Prompting, Query
from sam4mllm.prompters.points import Layout, PointsToAsk, Thresholds, ask_boxes_and_points, classify_points
from sam4mllm.segmenters import Capabilities

REFINEMENT = 3
"""Refinement factor from one grid to the next. If it is odd, coarse cell centres are fine cell centres too."""


class AdaptivePQPP:
    """Generates boxes, classifies a coarse grid of points in each, then adds points where the label is uncertain.

    Args:
        mllm: the model that generates the boxes and classifies the points.
        points: number of points in the coarse grid; a square number.
        budget: maximum number of points per box, including the coarse grid.
        sure_yes: a point is kept as positive if P(yes) is above this threshold.
        sure_no: a point is kept as negative if P(no) is above this threshold. A point that passes neither threshold is
            uncertain.

    Raises:
        UserError: if ``points`` is not a square number, a threshold is outside .5..1, or ``budget`` is less than
            ``points``.
    """

    produces = Capabilities()
    needs_choose = True

    def __init__(
        self, mllm: MLLM, points: int = 9, budget: int = 25, sure_yes: float = 0.75, sure_no: float = 0.9
    ) -> None:
        if budget < points:
            raise UserError(
                f"budget {budget} is less than the {points} points of the coarse grid: raise budget or lower points"
            )
        self.mllm, self.layout, self.budget = mllm, Layout("grid", points), budget
        self.thresholds = Thresholds(sure_yes, sure_no)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; ``point_answers`` holds every classified point in order, also uncertain ones."""
        return self.thresholds.keep_certain(ask_boxes_and_points(self.mllm, queries, self._ask))

    def _ask(self, chat: Chat, phrases: Sequence[str], boxes: Sequence[Prompting]) -> list[Prompting]:
        """Classify points in rounds. Each round covers all boxes that have uncertain points and budget left."""
        side = math.isqrt(self.layout.points)
        maps = [[AnswerMap(prompt.extent, side) for prompt in prompting.prompts] for prompting in boxes]
        promptings = list(boxes)
        points = [_number_by_object([answers.begin() for answers in row]) for row in maps]
        while any(points):
            counts = [len(prompting.point_answers) for prompting in promptings]
            promptings = classify_points(chat, self.mllm.dialect, phrases, promptings, points)
            for row, prompting, count in zip(maps, promptings, counts, strict=True):
                for answer in prompting.point_answers[count:]:
                    row[answer.object].answers.append(answer)
            points = [
                _number_by_object([answers.next(self.thresholds, self.budget) for answers in row]) for row in maps
            ]
        return promptings


@dataclass
class AnswerMap:
    """The answers for one box, and the map of P(yes) interpolated from them.

    Attributes:
        box: the object's box.
        side: current number of grid cells per row and per column.
        answers: the answers so far, in order.
        yes: P(yes) at each cell centre, answered or interpolated; None before the first refinement.
    """

    box: Box
    side: int
    answers: list[PointAnswer] = field(default_factory=list)
    yes: Float[np.ndarray, "side side"] | None = None

    def begin(self) -> list[Point]:
        """The points of the coarse grid."""
        return list(Layout("grid", self.side * self.side).place(self.box))

    def next(self, sure: Thresholds, budget: int) -> list[Point]:
        """The next points to classify; empty if the budget is used up or no uncertain cell is at least a pixel wide."""
        remaining = budget - len(self.answers)
        while remaining and min(self.box.width, self.box.height) >= REFINEMENT * self.side:
            self._refine()
            points = Layout("grid", self.side * self.side).place(self.box)
            if chosen := [points[cell] for cell in islice(self._uncertain_cells(sure), remaining)]:
                return chosen
        return []

    def _refine(self) -> None:
        """Fill the latest answers into the grid, then interpolate it to one three times as fine."""
        coarse = self._filled(np.full((self.side, self.side), np.nan) if self.yes is None else self.yes)
        self.side *= REFINEMENT
        self.yes = _interpolate(coarse)

    def _filled(self, yes: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "side side"]:
        filled = yes.copy()
        for answer in self.answers:
            filled.flat[self._cell(answer)] = answer.yes
        return filled

    def _cell(self, answer: PointAnswer) -> int:
        """The row-major index of the cell that holds the point; the point may come from this or a coarser grid."""
        column = (answer.x - self.box.x0) / self.box.width * self.side
        return int((answer.y - self.box.y0) / self.box.height * self.side) * self.side + int(column)

    def _uncertain_cells(self, sure: Thresholds) -> Iterator[int]:
        """The cells without an answer or a certain label, the least certain first; ties are spread evenly."""
        assert self.yes is not None
        answered = {self._cell(answer) for answer in self.answers}
        certainty = np.round(np.abs(self.yes.ravel() - 0.5), 6)
        tie_break = (np.indices(self.yes.shape).reshape(2, -1).T @ R2_STEPS) % 1.0
        for cell in np.lexsort((tie_break, certainty)).tolist():
            if cell not in answered and sure.of(float(self.yes.flat[cell])) is None:
                yield cell


def _number_by_object(points_per_object: Sequence[Sequence[Point]]) -> PointsToAsk:
    return [(index, point) for index, points in enumerate(points_per_object) for point in points]


def _interpolate(coarse: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "finer finer"]:
    """Linear interpolation to the centres of cells a third as wide; outside the box P(yes) is 0.

    The zeros are right because an object touches the edges of its box: its outline runs between the box's edge and the
    outermost positive points.
    """
    padded = np.pad(coarse, 1)
    positions = (np.arange(REFINEMENT * len(coarse)) + 0.5) / REFINEMENT + 0.5
    weights = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(len(padded))))
    finer: Float[np.ndarray, "finer finer"] = weights @ padded @ weights.T
    return finer
