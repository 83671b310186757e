"""PQPP, proactive query of prompt-points: a box, then yes or no about points laid inside it (SAM4MLLM, ECCV 2024).

Each point is asked alone, as the first turn after the box, so that no answer leans on another; ``ask="list"`` asks
all points of an object in one turn, as the paper does. Unsure points are dropped; where none is sure the box stands
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam4mllm.errors import UserError
from sam4mllm.language.templates import ask_points, read_labels
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prompters import Asked, Prompting, Query
from sam4mllm.prompters.points import Layout, Sure, ask_each, boxes_then, shared


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
        if ask not in ("one", "list"):
            raise UserError(f"unknown way of asking {ask!r}: choose from one, list")
        self.mllm, self.layout, self.sure, self.ask = mllm, Layout(layout, points), Sure(sure_yes, sure_no), ask

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; its ``asked`` holds every point that was answered, kept or not."""
        ask = self._ask_each if self.ask == "one" else self._ask_lists
        return self.sure.of_each(boxes_then(self.mllm, queries, ask))

    def _ask_each(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        laid = [
            [(index, point) for index, prompt in enumerate(one.prompts) for point in self.layout.lay(prompt.box)]
            for one in found
        ]
        return ask_each(chat, self.mllm.dialect, phrases, found, laid)

    def _ask_lists(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        """One turn per object; a picture with fewer objects than another is not asked in the later rounds."""
        found = list(found)
        for index in range(max(len(prompting.prompts) for prompting in found)):
            laid = [self.layout.lay(p.prompts[index].box) if index < len(p.prompts) else () for p in found]
            texts = [
                ask_points(points, phrase, self.mllm.dialect, frame, shared(prompting.prompts, index)) if points else ""
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


def verified(mllm: MLLM, points: int = 9) -> PQPP:
    """The baseline without fine-tuning: a model's box, and points of its interior that the same model has verified.

    The points are always the same ones of the box's inner half, and each gets the sign that is likelier.
    """
    return PQPP(mllm, "interior", points, 0.5, 0.5)
