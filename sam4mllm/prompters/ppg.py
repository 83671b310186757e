"""PPG, prompt-point generation: the model generates boxes and labelled points in one reply (SAM4MLLM, ECCV 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from sam4mllm.errors import UserError
from sam4mllm.language.templates import ask_prompts, parse_prompts
from sam4mllm.mllm import MLLM
from sam4mllm.prompters import Prompting, Query
from sam4mllm.prompters.first_turn import first_turn
from sam4mllm.segmenters import Capabilities


class PPG:
    """Generates the box and the points of every object that the phrase refers to, in one reply.

    Args:
        mllm: the model that generates the prompts.
        positive: number of points to request on each object.
        negative: number of points to request off each object.

    Raises:
        UserError: if a number of points is negative.
    """

    needs_choose = False

    def __init__(self, mllm: MLLM, positive: int = 3, negative: int = 3) -> None:
        if positive < 0 or negative < 0:
            raise UserError(f"PPG needs 0 or more points, got positive={positive} and negative={negative}")
        self.mllm, self.positive, self.negative = mllm, positive, negative
        self.produces = Capabilities(positive + negative > 0, negative > 0)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, with the points of the reply, which may be more or fewer than requested."""
        if not queries:
            return []
        texts = [ask_prompts(query.phrase, self.positive, self.negative, self.mllm.dialect) for query in queries]
        return first_turn(self.mllm, queries, texts, parse_prompts)[1]
