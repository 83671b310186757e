"""Prompts that are known beforehand, as a rule from true masks: the ceiling of a segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sam4mllm.errors import UserError
from sam4mllm.geometry import Prompt
from sam4mllm.prompters import Prompting, Query


class Oracle:
    """Looks the prompts of each query up by its key, and asks no model.

    Args:
        prompts: by `Query.key`, a sample's id; ``()`` is "nothing there".
    """

    def __init__(self, prompts: Mapping[str, tuple[Prompt, ...]]) -> None:
        self.prompts = prompts

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, without replies.

        Raises:
            UserError: for a query whose key is not known.
        """
        for query in queries:
            if query.key not in self.prompts:
                raise UserError(f"no prompts are known for the key {query.key!r} ({query.phrase!r})")
        return [Prompting(prompts=self.prompts[query.key]) for query in queries]
