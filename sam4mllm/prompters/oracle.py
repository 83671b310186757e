"""Prompts that are known beforehand, as a rule from true masks: the ceiling of a segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.sampling import clicks
from sam4mllm.prompters import Prompting, Query


class Oracle:
    """Looks the prompts of each query up by its key, and asks no model; what it says is marked as an oracle's.

    Args:
        prompts: by `Query.key`, a sample's id; ``()`` is "nothing there".
    """

    def __init__(self, prompts: Mapping[str, tuple[Prompt, ...]]) -> None:
        self.prompts = prompts

    @classmethod
    def of(cls, samples: Iterable[Sample], positive: int = 3, negative: int = 3, seed: int = 0) -> Oracle:
        """Of the prompts that a perfect talker would give about samples (see `true_prompts`)."""
        return cls(true_prompts(samples, positive, negative, seed))

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, without replies.

        Raises:
            UserError: for a query whose key is not known.
        """
        for query in queries:
            if query.key not in self.prompts:
                raise UserError(f"no prompts are known for the key {query.key!r} ({query.phrase!r})")
        return [Prompting(prompts=self.prompts[query.key], oracle=True) for query in queries]


def true_prompts(
    samples: Iterable[Sample], positive: int = 3, negative: int = 3, seed: int = 0
) -> dict[str, tuple[Prompt, ...]]:
    """Each sample's prompts from its own masks, by its id: every object's box, with random clicks in it.

    Args:
        samples: in an order that is part of what is drawn.
        positive: how many clicks on each object; fewer where it has fewer pixels.
        negative: how many off it, in its box; fewer where it fills its box.
        seed: of the clicks.

    Raises:
        UserError: for a negative number.
    """
    if min(positive, negative, seed) < 0:
        raise UserError(f"an oracle has 0 or more points and a seed of 0 or more, got {positive}, {negative}, {seed}")
    found = {}
    for number, sample in enumerate(samples):
        rng = np.random.default_rng([seed, number])
        boxes = [(rle.mask, rle.box) for rle in sample.masks]
        found[sample.id] = tuple(
            Prompt(box, clicks(mask, box, positive, negative, rng)) for mask, box in boxes if box is not None
        )
    return found
