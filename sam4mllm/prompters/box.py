"""The box prompter: boxes without points, the baseline for PPG and PQPP."""

from __future__ import annotations

from collections.abc import Sequence

from sam4mllm.mllm import MLLM
from sam4mllm.prompters import Prompting, Query
from sam4mllm.prompters.first_turn import ask_for_boxes
from sam4mllm.segmenters import Capabilities


class BoxPrompter:
    """Generates the box of every object that the phrase refers to, without points.

    Args:
        mllm: the model that generates the boxes.
    """

    produces = Capabilities(points=False, negative_points=False)
    needs_choose = False

    def __init__(self, mllm: MLLM) -> None:
        self.mllm = mllm

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, with prompts that have no points."""
        return ask_for_boxes(self.mllm, queries)[1] if queries else []
