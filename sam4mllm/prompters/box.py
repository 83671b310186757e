"""The box alone: what a model finds without points, the floor that PPG and PQPP are measured against."""

from __future__ import annotations

from collections.abc import Sequence

from sam4mllm.mllm import MLLM
from sam4mllm.prompters import Prompting, Query
from sam4mllm.prompters.first_turn import boxes_turn


class BoxPrompter:
    """Asks for the box, or boxes, of the phrase and nothing more.

    Args:
        mllm: who is asked.
    """

    def __init__(self, mllm: MLLM) -> None:
        self.mllm = mllm

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; its prompts hold no points."""
        return boxes_turn(self.mllm, queries)[1] if queries else []
