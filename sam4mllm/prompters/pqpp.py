"""PQPP, proactive query of prompt-points: a box, then yes or no for points inside it (SAM4MLLM, ECCV 2024).

Each point is classified in a turn of its own, directly after the turn with the boxes, so that no answer depends on
another. With ``ask="list"`` one turn lists all points of an object, as in the paper. Uncertain points are dropped. If
no point of an object is certain, its prompt is the box alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Point
from sam4mllm.language.messages import Reply
from sam4mllm.language.templates import ask_points, parse_labels
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import PointAnswer, Prompting, Query
from sam4mllm.prompters.points import Layout, Thresholds, ask_boxes_and_points, classify_points, shared
from sam4mllm.segmenters import Capabilities


class PQPP:
    """Generates boxes, then classifies points inside each box as on or off the object.

    Args:
        mllm: the model that generates the boxes and classifies the points.
        layout: arrangement of the points in a box: a regular ``grid``, a ``low-discrepancy`` set, or its ``interior``.
        points: points per box; a square number for the grid.
        sure_yes: a point is kept as positive if P(yes) is above this; 0.75 in the official code.
        sure_no: a point is kept as negative if P(no) is above this; 0.9 in the official code.
        ask: ``one`` point per question, or a ``list`` of all points of an object in one question, as in the paper.
            Answers to a list have no probabilities and count as certain.

    Raises:
        UserError: if ``layout`` or ``ask`` is unknown, a threshold is outside .5..1, or ``points`` does not fit the
            layout.
    """

    produces = Capabilities()

    def __init__(
        self,
        mllm: MLLM,
        layout: str = "grid",
        points: int = 25,
        sure_yes: float = 0.75,
        sure_no: float = 0.9,
        ask: str = "one",
    ) -> None:
        if ask not in ("one", "list"):
            raise UserError(f"unknown value for ask, {ask!r}: choose from one, list")
        self.needs_choose = ask == "one"
        self.mllm, self.layout, self.thresholds, self.ask = (
            mllm,
            Layout(layout, points),
            Thresholds(sure_yes, sure_no),
            ask,
        )

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; ``point_answers`` holds every point with an answer, also uncertain ones."""
        ask = self._ask_each if self.ask == "one" else self._ask_lists
        return self.thresholds.keep_certain(ask_boxes_and_points(self.mllm, queries, ask))

    def _ask_each(self, chat: Chat, phrases: Sequence[str], boxes: Sequence[Prompting]) -> list[Prompting]:
        points = [
            [
                (index, point)
                for index, prompt in enumerate(prompting.prompts)
                for point in self.layout.place(prompt.extent)
            ]
            for prompting in boxes
        ]
        return classify_points(chat, self.mllm.dialect, phrases, boxes, points)

    def _ask_lists(self, chat: Chat, phrases: Sequence[str], boxes: Sequence[Prompting]) -> list[Prompting]:
        """One turn per object. An image with fewer objects than another gets no text in the later turns."""
        promptings = list(boxes)
        for index in range(max(len(prompting.prompts) for prompting in promptings)):
            points_per_query = [
                self.layout.place(prompting.prompts[index].extent) if index < len(prompting.prompts) else ()
                for prompting in promptings
            ]
            texts = [
                ask_points(points, phrase, self.mllm.dialect, frame, shared(prompting.prompts, index)) if points else ""
                for points, phrase, frame, prompting in zip(
                    points_per_query, phrases, chat.frames, promptings, strict=True
                )
            ]
            for row, (points, reply) in enumerate(zip(points_per_query, chat.answer(texts), strict=True)):
                if points:
                    promptings[row] = _add_answers(promptings[row], index, points, reply)
        return promptings


def _add_answers(prompting: Prompting, index: int, points: Sequence[Point], reply: Reply) -> Prompting:
    """Add the answers in a reply about the points of object ``index``; points without an answer are left out."""
    labels = parse_labels(reply.text, len(points))
    answers = [
        PointAnswer(index, point.x, point.y, float(label))
        for point, label in zip(points, labels, strict=True)
        if label is not None
    ]
    return replace(
        prompting,
        replies=(*prompting.replies, reply),
        readable=prompting.readable and bool(answers),
        point_answers=(*prompting.point_answers, *answers),
    )


def verified(mllm: MLLM, points: int = 9) -> PQPP:
    """PQPP for a model without fine-tuning: points in the box's inner half, each labelled by the more probable answer.

    The points have the same positions, relative to the box, in every box.
    """
    return PQPP(mllm, "interior", points, 0.5, 0.5)
