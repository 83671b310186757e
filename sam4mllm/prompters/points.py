"""Shared by PQPP and adaptive PQPP: place points in a box, let the model classify them, keep the certain ones.

Every point is classified in a turn of its own, directly after the turn with the boxes.
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
from sam4mllm.language.notation import Dialect
from sam4mllm.language.templates import YES_NO, ask_point
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import PointAnswer, Prompting, Query
from sam4mllm.prompters.first_turn import ask_for_boxes

PointsToAsk = Sequence[tuple[int, Point]]
"""The points of one query to classify, each with the index of its object."""

LAYOUTS: Mapping[str, Callable[[Box, int], Float[np.ndarray, "n 2"]]] = {
    "grid": lambda box, points: sampling.grid(box, math.isqrt(points)),
    "low-discrepancy": sampling.low_discrepancy,
    "interior": sampling.interior_of_box,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """An arrangement of points in a box.

    Attributes:
        name: a key of `LAYOUTS`: a regular ``grid``, a ``low-discrepancy`` set, or the box's ``interior``.
        points: points per box; a square number for the grid.

    Raises:
        UserError: if the name is unknown, ``points`` is below 1, or ``points`` of a grid is not a square number.
    """

    name: str
    points: int

    def __post_init__(self) -> None:
        if self.name not in LAYOUTS:
            raise UserError(f"unknown layout {self.name!r}: choose from {', '.join(LAYOUTS)}")
        if self.points < 1 or (self.name == "grid" and math.isqrt(self.points) ** 2 != self.points):
            raise UserError(
                f"layout {self.name!r} cannot have {self.points} points: use 1 or more, a square number for the grid"
            )

    def place(self, box: Box) -> tuple[Point, ...]:
        """The points in a box, in pixels of the original image."""
        return tuple(Point(float(x), float(y)) for x, y in LAYOUTS[self.name](box, self.points))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds above which an answer counts as certain.

    Attributes:
        yes: a point is kept as positive if P(yes) is above this; 0.75 in the official code.
        no: a point is kept as negative if P(no) is above this; 0.9 in the official code.

    Raises:
        UserError: if a threshold is outside .5..1.
    """

    yes: float = 0.75
    no: float = 0.9

    def __post_init__(self) -> None:
        if not (0.5 <= self.yes <= 1 and 0.5 <= self.no <= 1):
            raise UserError(f"thresholds must be within .5 and 1, got sure_yes={self.yes} and sure_no={self.no}")

    def of(self, yes: float) -> bool | None:
        """The label of a point with this P(yes): true for positive, false for negative, None if uncertain."""
        return True if yes > self.yes else False if 1 - yes > self.no else None

    def keep_certain(self, promptings: Sequence[Prompting]) -> list[Prompting]:
        """The promptings with the certain ones of their classified points added to the prompts."""
        return [
            replace(prompting, prompts=self.certain_prompts(prompting.prompts, prompting.point_answers))
            for prompting in promptings
        ]

    def certain_prompts(self, prompts: Sequence[Prompt], answers: Sequence[PointAnswer]) -> tuple[Prompt, ...]:
        """The boxes with their certain points, in the order of ``point_answers``."""
        points: list[list[Point]] = [[] for _ in prompts]
        for answer in answers:
            label = self.of(answer.yes)
            if label is not None:
                points[answer.object].append(Point(answer.x, answer.y, positive=label))
        return tuple(Prompt(prompt.extent, tuple(labelled)) for prompt, labelled in zip(prompts, points, strict=True))


def ask_boxes_and_points(
    mllm: MLLM,
    queries: Sequence[Query],
    ask: Callable[[Chat, Sequence[str], Sequence[Prompting]], list[Prompting]],
) -> list[Prompting]:
    """Generate the boxes of each query, then classify points in them.

    Args:
        mllm: the model that generates the boxes and classifies the points.
        queries: a batch; if it is empty, the model is not called.
        ask: classifies points; receives the chat after the turn with the boxes, the phrases, and the boxes as
            promptings, and returns the promptings with ``point_answers`` filled in.

    Returns:
        One `Prompting` per query. ``timings["points"]`` holds the seconds of ``ask``.
    """
    if not queries:
        return []
    chat, boxes = ask_for_boxes(mllm, queries)
    start = perf_counter()
    promptings = ask(chat, [query.phrase for query in queries], boxes)
    seconds = (perf_counter() - start) / len(queries)
    return [replace(prompting, timings={**prompting.timings, "points": seconds}) for prompting in promptings]


def classify_points(
    chat: Chat,
    dialect: Dialect,
    phrases: Sequence[str],
    promptings: Sequence[Prompting],
    points_per_query: Sequence[PointsToAsk],
) -> list[Prompting]:
    """Classify each point in a turn of its own and append the answers to ``point_answers``.

    Args:
        chat: the chat after the turn with the boxes; no turn is appended to it.
        dialect: how the model writes points.
        phrases: one per query.
        promptings: the boxes and earlier answers of each query.
        points_per_query: the points to classify; may be empty for a query.

    Raises:
        UserError: if the model returns NaN or another number outside 0..1 as a probability.
    """
    questions = [
        [ask_point(point, phrase, dialect, frame, shared(prompting.prompts, index)) for index, point in points]
        for points, phrase, frame, prompting in zip(points_per_query, phrases, chat.frames, promptings, strict=True)
    ]
    answers_per_query = chat.choose(questions, YES_NO)
    return [
        replace(
            prompting,
            point_answers=(
                *prompting.point_answers,
                *(
                    PointAnswer(index, point.x, point.y, _check_probability(float(probabilities[0])))
                    for (index, point), probabilities in zip(points, answers, strict=True)
                ),
            ),
        )
        for prompting, points, answers in zip(promptings, points_per_query, answers_per_query, strict=True)
    ]


def _check_probability(yes: float) -> float:
    if not 0 <= yes <= 1:  # also catches NaN
        raise UserError(
            f"the model returned {yes} as a probability of a point: its numbers overflow, try another dtype"
        )
    return yes


def shared(prompts: Sequence[Prompt], index: int) -> Box | None:
    """The object's box if the phrase refers to several objects, so that a question can name one of them; else None."""
    return prompts[index].extent if len(prompts) > 1 else None
