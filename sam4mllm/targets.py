"""From a true mask to the prompts that redraw it best: what a model should learn to say (SAM4MLLM, ECCV 2024).

Random sets of clicks are tried on the segmenter and ranked by the IoU of what it draws with the mask. Pure functions
over one object; knows nothing of files or data sets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam4mllm.geometry import Box, Mask, Prompt, box_of, iou
from sam4mllm.sampling import clicks
from sam4mllm.segmenter import Scene


def candidates(
    mask: Mask, k: int, *, positive: int, negative: int, rng: np.random.Generator, box: Box | None = None
) -> list[Prompt]:
    """``k`` prompts of one box, each with its own random clicks on and off the mask inside the box.

    Args:
        mask: the true mask.
        k: how many prompts.
        positive: clicks on the mask in each; fewer where the box holds fewer such pixels.
        negative: clicks off the mask in each; likewise.
        rng: where the clicks come from.
        box: the box of them all; the mask's own where None.

    Returns:
        The prompts; none for an empty mask without a box.
    """
    box = box or box_of(mask)
    if box is None:
        return []
    return [Prompt(box, clicks(mask, box, positive, negative, rng)) for _ in range(k)]


def best(
    scene: Scene, mask: Mask, candidates: Sequence[Prompt], keep: int = 1, least: float = 0.0
) -> list[tuple[Prompt, float]]:
    """The candidates that redraw the mask best, with the IoU of what the segmenter drew, best first.

    Args:
        scene: the picture, embedded.
        mask: the true mask, of the picture's size.
        candidates: the prompts to try, all in one call of the segmenter; equals keep their order.
        keep: how many to return at most.
        least: the IoU below which a candidate is dropped.

    Returns:
        At most ``keep`` pairs; none where no candidate reaches ``least``.
    """
    drawn = [
        (prompt, iou(scored.mask, mask)) for prompt, scored in zip(candidates, scene.segment(candidates), strict=True)
    ]
    return sorted((pair for pair in drawn if pair[1] >= least), key=lambda pair: -pair[1])[:keep]
