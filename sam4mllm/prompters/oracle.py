"""The oracle prompter: prompts from ground truth masks, the upper bound for a segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.sampling import clicks
from sam4mllm.prompters import Prompting, Query
from sam4mllm.segmenters import Capabilities


class Oracle:
    """Looks up the prompts of each query by its key and marks them with ``Prompting.oracle``. It uses no model.

    Args:
        prompts: maps `Query.key`, a sample's id, to one prompt per object; ``()`` means no object.
        produces: the kinds of prompts among them.
    """

    needs_choose = False

    def __init__(
        self,
        prompts: Mapping[str, tuple[Prompt, ...]],
        produces: Capabilities = Capabilities(),  # noqa: B008  frozen
    ) -> None:
        self.prompts, self.produces = prompts, produces

    @classmethod
    def of(cls, samples: Iterable[Sample], positive: int = 3, negative: int = 3, seed: int = 0) -> Oracle:
        """An oracle for the samples, with the prompts of `ground_truth_prompts`."""
        produces = Capabilities(positive + negative > 0, negative > 0)
        return cls(ground_truth_prompts(samples, positive, negative, seed), produces)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, without replies.

        Raises:
            UserError: if the oracle has no entry for a query's key.
        """
        for query in queries:
            if query.key not in self.prompts:
                raise UserError(f"the oracle has no prompts for key {query.key!r} (phrase {query.phrase!r})")
        return [Prompting(prompts=self.prompts[query.key], oracle=True) for query in queries]


def ground_truth_prompts(
    samples: Iterable[Sample], positive: int = 3, negative: int = 3, seed: int = 0
) -> dict[str, tuple[Prompt, ...]]:
    """Prompts from each sample's ground truth masks, by sample id: the box of every object and random points in it.

    Args:
        samples: the samples; their order determines the random points.
        positive: points on each object; fewer if the object has fewer pixels.
        negative: points off each object but inside its box; fewer if fewer pixels of the box are off the object.
        seed: random seed of the points.

    Raises:
        UserError: if a number is negative.
    """
    if min(positive, negative, seed) < 0:
        raise UserError(
            "an oracle needs 0 or more points and a seed of 0 or more, "
            f"got positive={positive}, negative={negative}, seed={seed}"
        )
    prompts_by_id = {}
    for number, sample in enumerate(samples):
        rng = np.random.default_rng([seed, number])
        boxes = [(rle.mask, rle.box) for rle in sample.masks]
        prompts_by_id[sample.id] = tuple(
            Prompt(box, clicks(mask, box, positive, negative, rng)) for mask, box in boxes if box is not None
        )
    return prompts_by_id
