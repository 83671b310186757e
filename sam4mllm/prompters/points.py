"""What the strategies share that ask about points one by one: how points are laid, asked about, and kept.

Every point is asked about alone, as the first turn after the boxes. Knows nothing of which points are worth asking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from jaxtyping import Float

from sam4mllm.errors import UserError
from sam4mllm.geometry import sampling
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.language.dialects import Dialect
from sam4mllm.language.templates import YES_NO, ask_point
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import Asked, Prompting, Query
from sam4mllm.prompters.first_turn import boxes_turn

Laid = Sequence[tuple[int, Point]]
"""Points of one query to ask about, each with the number of its object."""

LAYOUTS: Mapping[str, Callable[[Box, int], Float[np.ndarray, "n 2"]]] = {
    "grid": lambda box, points: sampling.grid(box, math.isqrt(points)),
    "low-discrepancy": sampling.low_discrepancy,
    "interior": sampling.interior_of_box,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How points are laid over a box.

    Attributes:
        name: a key of `LAYOUTS`: a regular ``grid``, a ``low-discrepancy`` set, or the box's ``interior``.
        points: how many; a square number for the grid.

    Raises:
        UserError: for an unknown name, no points, or a grid that is not a square.
    """

    name: str
    points: int

    def __post_init__(self) -> None:
        if self.name not in LAYOUTS:
            raise UserError(f"unknown layout {self.name!r}: choose from {', '.join(LAYOUTS)}")
        if self.points < 1 or (self.name == "grid" and math.isqrt(self.points) ** 2 != self.points):
            raise UserError(
                f"{self.points} points cannot be laid as {self.name}: give 1 or more, a square number for the grid"
            )

    def lay(self, box: Box) -> tuple[Point, ...]:
        """The points of a box, in their order."""
        return tuple(Point(float(x), float(y)) for x, y in LAYOUTS[self.name](box, self.points))


@dataclass(frozen=True, slots=True)
class Sure:
    """When an answer is sure.

    Attributes:
        yes: a point is kept as positive where P(yes) is above this (the official code's 0.75).
        no: a point is kept as negative where P(no) is above this (the official code's 0.9).

    Raises:
        UserError: for thresholds outside .5..1.
    """

    yes: float = 0.75
    no: float = 0.9

    def __post_init__(self) -> None:
        if not (0.5 <= self.yes <= 1 and 0.5 <= self.no <= 1):
            raise UserError(f"thresholds must lie within .5 and 1, got sure_yes={self.yes} and sure_no={self.no}")

    def of(self, yes: float) -> bool | None:
        """The sign of a point with that P(yes); None where it is not sure."""
        return True if yes > self.yes else False if 1 - yes > self.no else None

    def of_each(self, found: Sequence[Prompting]) -> list[Prompting]:
        """The same with the sure ones of the points that were asked about."""
        return [replace(one, prompts=self.kept(one.prompts, one.asked)) for one in found]

    def kept(self, prompts: Sequence[Prompt], asked: Sequence[Asked]) -> tuple[Prompt, ...]:
        """The boxes with their sure points, in the order in which they were asked about."""
        points: list[list[Point]] = [[] for _ in prompts]
        for one in asked:
            sign = self.of(one.yes)
            if sign is not None:
                points[one.object].append(Point(one.x, one.y, positive=sign))
        return tuple(Prompt(prompt.box, tuple(own)) for prompt, own in zip(prompts, points, strict=True))


def boxes_then(
    mllm: MLLM,
    queries: Sequence[Query],
    ask: Callable[[Chat, Sequence[str], Sequence[Prompting]], list[Prompting]],
) -> list[Prompting]:
    """Ask for the boxes of each query, then about points in them.

    Args:
        mllm: who is asked.
        queries: a batch; nobody is asked where there are none.
        ask: given the chat after the turn that asked for the boxes, the phrases and the boxes, adds what it asked.

    Returns:
        One `Prompting` per query with the seconds of its ``ask`` under ``points``.
    """
    if not queries:
        return []
    chat, found = boxes_turn(mllm, queries)
    start = perf_counter()
    found = ask(chat, [query.phrase for query in queries], found)
    seconds = (perf_counter() - start) / len(queries)
    return [replace(one, timings={**one.timings, "points": seconds}) for one in found]


def ask_each(
    chat: Chat, dialect: Dialect, phrases: Sequence[str], found: Sequence[Prompting], laid: Sequence[Laid]
) -> list[Prompting]:
    """Ask about points, each alone, and add the answers to those that were given before.

    Args:
        chat: after the turn that asked for the boxes; nothing is appended to it.
        dialect: the model's.
        phrases: one for each query.
        found: the boxes of each query.
        laid: the points of each query; none where () is.

    Raises:
        UserError: for an answer that has no probability: the model's own numbers are none.
    """
    questions = [
        [ask_point(point, phrase, dialect, frame, shared(one.prompts, index)) for index, point in points]
        for points, phrase, frame, one in zip(laid, phrases, chat.frames, found, strict=True)
    ]
    chances = chat.choose(questions, YES_NO)
    return [
        replace(
            one,
            asked=(
                *one.asked,
                *(
                    Asked(index, point.x, point.y, _likely(float(chance[0])))
                    for (index, point), chance in zip(points, rows, strict=True)
                ),
            ),
        )
        for one, points, rows in zip(found, laid, chances, strict=True)
    ]


def _likely(yes: float) -> float:
    if not 0 <= yes <= 1:  # nan, too
        raise UserError(
            f"the model gave no probability but {yes} about a point: its numbers overflow, try another dtype"
        )
    return yes


def shared(prompts: Sequence[Prompt], index: int) -> Box | None:
    """The object's box where the phrase means several objects, and the question must say which."""
    return prompts[index].box if len(prompts) > 1 else None
