"""PQPP, proactive query of prompt-points: a box, then yes or no about points laid inside it (SAM4MLLM, ECCV 2024).

Each point is asked alone, as the first turn after the box, so that no answer leans on another; ``ask="list"`` asks
all points of an object in one turn, as the paper does. Unsure points are dropped; where none is sure the box stands
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from jaxtyping import Float

from sam4mllm import sampling
from sam4mllm.dialogue import YES_NO, ask_boxes, ask_point, ask_points, read_boxes, read_labels
from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Point, Prompt
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import Asked, Prompting, Query
from sam4mllm.prompters.first_turn import first_turn

LAYOUTS: Mapping[str, Callable[[Box, int], Float[np.ndarray, "n 2"]]] = {
    "grid": lambda box, points: sampling.grid(box, math.isqrt(points)),
    "low-discrepancy": sampling.low_discrepancy,
    "interior": sampling.interior_of_box,
}


class PQPP:
    """Asks for the boxes, then whether points inside each are on the object.

    Args:
        mllm: who is asked.
        layout: how points are laid over a box: a regular ``grid``, a ``low-discrepancy`` set, or its ``interior``.
        points: how many; a square number for the grid.
        sure_yes: a point is kept as positive where P(yes) is above this (the official code's 0.75).
        sure_no: a point is kept as negative where P(no) is above this (the official code's 0.9).
        ask: ``one`` point a question, or the paper's ``list`` of all points of an object in one turn; a listed answer
            carries no probability and counts as sure.

    Raises:
        UserError: for an unknown layout or way of asking, thresholds outside .5..1, or a grid that is not a square.
    """

    def __init__(
        self,
        mllm: MLLM,
        layout: str = "grid",
        points: int = 25,
        sure_yes: float = 0.75,
        sure_no: float = 0.9,
        ask: str = "one",
    ) -> None:
        if layout not in LAYOUTS:
            raise UserError(f"unknown layout {layout!r}: choose from {', '.join(LAYOUTS)}")
        if ask not in ("one", "list"):
            raise UserError(f"unknown way of asking {ask!r}: choose from one, list")
        if points < 1 or (layout == "grid" and math.isqrt(points) ** 2 != points):
            raise UserError(f"{points} points cannot be laid as {layout}: give 1 or more, a square number for the grid")
        if not (0.5 <= sure_yes <= 1 and 0.5 <= sure_no <= 1):
            raise UserError(f"thresholds must lie within .5 and 1, got sure_yes={sure_yes} and sure_no={sure_no}")
        self.mllm, self.layout, self.points = mllm, layout, points
        self.sure_yes, self.sure_no, self.ask = sure_yes, sure_no, ask

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; its ``asked`` holds every point that was answered, kept or not."""
        if not queries:
            return []
        texts = [ask_boxes(query.phrase, self.mllm.dialect) for query in queries]
        chat, found = first_turn(self.mllm, queries, texts, read_boxes)
        start = perf_counter()
        phrases = [query.phrase for query in queries]
        found = self._ask_each(chat, phrases, found) if self.ask == "one" else self._ask_lists(chat, phrases, found)
        seconds = (perf_counter() - start) / len(queries)
        return [
            replace(prompting, prompts=self._kept(prompting), timings={**prompting.timings, "points": seconds})
            for prompting in found
        ]

    def _ask_each(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        laid = [
            [(index, point) for index, prompt in enumerate(prompting.prompts) for point in self._lay(prompt.box)]
            for prompting in found
        ]
        questions = [
            [
                ask_point(point, phrase, self.mllm.dialect, frame, _shared(prompting.prompts, index))
                for index, point in points
            ]
            for points, phrase, frame, prompting in zip(laid, phrases, chat.frames, found, strict=True)
        ]
        chances = chat.choose(questions, YES_NO)
        return [
            replace(
                prompting,
                asked=tuple(
                    Asked(index, point.x, point.y, float(chance[0]))
                    for (index, point), chance in zip(points, rows, strict=True)
                ),
            )
            for prompting, points, rows in zip(found, laid, chances, strict=True)
        ]

    def _ask_lists(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        """One turn per object; a picture with fewer objects than another is not asked in the later rounds."""
        found = list(found)
        for index in range(max(len(prompting.prompts) for prompting in found)):
            laid = [self._lay(p.prompts[index].box) if index < len(p.prompts) else () for p in found]
            texts = [
                ask_points(points, phrase, self.mllm.dialect, frame, _shared(prompting.prompts, index))
                if points
                else ""
                for points, phrase, frame, prompting in zip(laid, phrases, chat.frames, found, strict=True)
            ]
            for row, reply in enumerate(chat.answer(texts)):
                if laid[row]:
                    labels = read_labels(reply.text, len(laid[row]))
                    heard = [
                        Asked(index, point.x, point.y, float(label))
                        for point, label in zip(laid[row], labels, strict=True)
                        if label is not None
                    ]
                    found[row] = replace(
                        found[row],
                        replies=(*found[row].replies, reply),
                        readable=found[row].readable and bool(heard),
                        asked=(*found[row].asked, *heard),
                    )
        return found

    def _lay(self, box: Box) -> tuple[Point, ...]:
        return tuple(Point(float(x), float(y)) for x, y in LAYOUTS[self.layout](box, self.points))

    def _kept(self, prompting: Prompting) -> tuple[Prompt, ...]:
        """The boxes with their sure points."""
        return tuple(
            Prompt(
                prompt.box,
                tuple(
                    Point(asked.x, asked.y, positive=asked.yes > self.sure_yes)
                    for asked in prompting.asked
                    if asked.object == index and (asked.yes > self.sure_yes or 1 - asked.yes > self.sure_no)
                ),
            )
            for index, prompt in enumerate(prompting.prompts)
        )


def _shared(prompts: Sequence[Prompt], index: int) -> Box | None:
    """The object's box where the phrase means several objects, and the question must say which."""
    return prompts[index].box if len(prompts) > 1 else None
