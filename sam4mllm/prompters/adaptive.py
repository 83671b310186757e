"""Adaptive PQPP: a box, a coarse grid of points inside it, then more points where the answers leave something open.

The subdivision of PointRend (Kirillov et al., CVPR 2020, section 3.1) with an MLLM in the place of the point head: the
answers of a grid are interpolated to a grid three times as fine, whose places are a part of the coarser one's, and the
least certain places are asked about; then the same again, until the budget is spent or nothing is open. So questions
are laid where neighbouring answers differ or are unsure, the world beyond the box being a sure "no".
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
from sam4mllm.prompters import Asked, Prompting, Query
from sam4mllm.prompters.points import Laid, Layout, Sure, ask_each, boxes_then

FINER = 3
"""How many times as fine each grid is: an odd number, so that the centres of the coarser one's cells are among its."""


class AdaptivePQPP:
    """Asks for the boxes, then about a coarse grid in each, then where that leaves a point's sign open.

    Args:
        mllm: who is asked.
        points: of the coarse grid, a square number.
        budget: how many points of a box are asked about at most, the coarse grid's among them.
        sure_yes: a point is kept as positive where P(yes) is above this.
        sure_no: a point is kept as negative where P(no) is above this; what lies between the two is open.

    Raises:
        UserError: for a grid that is not a square, thresholds outside .5..1, or a budget below the grid.
    """

    def __init__(
        self, mllm: MLLM, points: int = 9, budget: int = 25, sure_yes: float = 0.75, sure_no: float = 0.9
    ) -> None:
        if budget < points:
            raise UserError(f"a budget of {budget} questions does not hold the {points} points of the coarse grid")
        self.mllm, self.layout, self.budget = mllm, Layout("grid", points), budget
        self.sure = Sure(sure_yes, sure_no)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; its ``asked`` holds every point in the order of the questions, kept or not."""
        return self.sure.of_each(boxes_then(self.mllm, queries, self._ask))

    def _ask(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        """Rounds of questions, all boxes of all pictures in each; a box that has no more is left out."""
        side = math.isqrt(self.layout.points)
        maps = [[Answers(prompt.box, side) for prompt in one.prompts] for one in found]
        found = list(found)
        laid = [_laid([own.begin() for own in row]) for row in maps]
        while any(laid):
            before = [len(one.asked) for one in found]
            found = ask_each(chat, self.mllm.dialect, phrases, found, laid)
            for row, one, known in zip(maps, found, before, strict=True):
                for asked in one.asked[known:]:
                    row[asked.object].heard.append(asked)
            laid = [_laid([own.next(self.sure, self.budget) for own in row]) for row in maps]
        return found


@dataclass
class Answers:
    """What is known of one box: what was answered, and what can be told from it of all places of a grid.

    Attributes:
        box: the object's.
        side: how many places a row and a column of the grid have by now.
        heard: the answers so far.
        yes: P(yes) at each place of the grid, asked or interpolated; of no grid yet at first.
    """

    box: Box
    side: int
    heard: list[Asked] = field(default_factory=list)
    yes: Float[np.ndarray, "side side"] | None = None

    def begin(self) -> list[Point]:
        """The coarse grid's points."""
        return list(Layout("grid", self.side * self.side).lay(self.box))

    def next(self, sure: Sure, budget: int) -> list[Point]:
        """The next points to ask about; none where the budget is spent, or no place is open that is a pixel wide."""
        left = budget - len(self.heard)
        while left and min(self.box.width, self.box.height) >= FINER * self.side:
            self._refine()
            points = Layout("grid", self.side * self.side).lay(self.box)
            if chosen := [points[place] for place in islice(self._open(sure), left)]:
                return chosen
        return []

    def _refine(self) -> None:
        """The grid three times as fine: interpolated from the one before, which the latest answers are filled into."""
        coarse = self._filled(np.full((self.side, self.side), np.nan) if self.yes is None else self.yes)
        self.side *= FINER
        self.yes = _enlarged(coarse)

    def _filled(self, yes: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "side side"]:
        filled = yes.copy()
        for asked in self.heard:
            filled.flat[self._place(asked)] = asked.yes
        return filled

    def _place(self, asked: Asked) -> int:
        """Where in the grid, row by row, a point of this or of a coarser grid lies: at the centre of its cell."""
        column = (asked.x - self.box.x0) / self.box.width * self.side
        return int((asked.y - self.box.y0) / self.box.height * self.side) * self.side + int(column)

    def _open(self, sure: Sure) -> Iterator[int]:
        """The places of the grid whose sign is open, the least certain first; equally open ones spread evenly."""
        assert self.yes is not None
        known = {self._place(asked) for asked in self.heard}
        doubt = np.round(np.abs(self.yes.ravel() - 0.5), 6)
        turn = (np.indices(self.yes.shape).reshape(2, -1).T @ R2_STEPS) % 1.0
        for place in np.lexsort((turn, doubt)).tolist():
            if place not in known and sure.of(float(self.yes.flat[place])) is None:
                yield place


def _laid(rows: Sequence[Sequence[Point]]) -> Laid:
    return [(index, point) for index, points in enumerate(rows) for point in points]


def _enlarged(coarse: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "finer finer"]:
    """The values at the centres of cells three times as small, linear between centres; off the box the answer is no.

    An object touches the edges of its box, so its own edge runs between these and the outermost points on it.
    """
    ringed = np.pad(coarse, 1)
    places = (np.arange(FINER * len(coarse)) + 0.5) / FINER + 0.5
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(len(ringed))))
    finer: Float[np.ndarray, "finer finer"] = weights @ ringed @ weights.T
    return finer
