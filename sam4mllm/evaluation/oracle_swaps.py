"""The truth swapped into a prediction, one stage at a time: the prompts that each stage leaves to be drawn.

Each state takes over what the one before it holds and mends one thing more, in this order:

1. ``redrawn``: the prompts as they were predicted.
2. ``unreadable``: where nothing came of a reply that could not be read, the true prompts: each object's true box alone.
3. ``false none``: where "none" was said and something is there, the true prompts.
4. ``missed none``: where something was said and nothing is there, no prompts.
5. ``wrong instance``: every predicted box is held against every true one, and the pairs with an IoU of .5 or more are
   taken, the highest first, each box once. A true box without a partner stands in alone, and a predicted one without a
   partner goes, with its points: they were laid for something else, and mending their labels would not bring them back.
6. ``loose box``: the boxes of the pairs become the true ones; their points stay where they are.
7. ``point labels``: each point says whether it is on its object's true mask; on an ignored pixel it keeps its label.

What the last state still lacks is the segmenter's. Knows nothing of pixels drawn and of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Box, Mask, Point, Prompt, box_iou, on_mask
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction

FAILED, REDRAWN, UNREADABLE, FALSE_NONE, MISSED_NONE = "failed", "redrawn", "unreadable", "false none", "missed none"
WRONG_INSTANCE, LOOSE_BOX, POINT_LABELS, SEGMENTER = "wrong instance", "loose box", "point labels", "segmenter"
STATES = (REDRAWN, UNREADABLE, FALSE_NONE, MISSED_NONE, WRONG_INSTANCE, LOOSE_BOX, POINT_LABELS)
STAGES = (FAILED, *STATES, SEGMENTER)
"""What an IoU can be lost to, in order: an error in place of an answer, what each state mends, and what is left."""
RIGHT_INSTANCE = 0.5  # the IoU of boxes from which on comprehension counts one as found (Acc@0.5)


@dataclass(frozen=True, slots=True)
class Object:
    """One true object: its mask, never empty, and the box around it."""

    mask: Rle
    box: Box


def objects_of(sample: Sample) -> list[Object]:
    """What a phrase means, without masks that have no pixel."""
    found = [(mask, mask.box) for mask in sample.masks]
    return [Object(mask, box) for mask, box in found if box is not None]


def swapped(sample: Sample, prediction: Prediction) -> list[tuple[Prompt, ...]]:
    """The prompts of each of `STATES`, in order; ``()`` is the empty mask.

    Args:
        sample: with the truth.
        prediction: that has an answer: one that failed was never as far as this.
    """
    objects = objects_of(sample)
    true, said = tuple(Prompt(one.box) for one in objects), prediction.prompts
    heard = said if said or prediction.readable else true
    present = heard or true
    meant = present if true else ()
    partners = matched([prompt.box for prompt in meant], [one.box for one in objects])
    instances = tuple(
        meant[partners[index]] if index in partners else prompt  # of the same number and order as the objects
        for index, prompt in enumerate(true)
    )
    boxed = tuple(replace(prompt, box=one.box) for prompt, one in zip(instances, objects, strict=True))
    ignored = sample.ignore.mask if sample.ignore and any(prompt.points for prompt in boxed) else None
    labelled = tuple(_labelled(prompt, one, ignored) for prompt, one in zip(boxed, objects, strict=True))
    return [said, heard, present, meant, instances, boxed, labelled]


def changed(sample: Sample, prediction: Prediction) -> list[str]:
    """The stages that had anything to mend, in order; whether that mattered only a segmenter can tell."""
    if prediction.error is not None:
        return [FAILED]
    states = swapped(sample, prediction)
    pairs = zip(STATES[1:], states, states[1:], strict=False)
    return [stage for stage, before, after in pairs if set(before) != set(after)]


def matched(said: Sequence[Box], true: Sequence[Box]) -> dict[int, int]:
    """The number of the predicted box for each true one that has a partner, the pairs of highest IoU first.

    Args:
        said: any boxes.
        true: any boxes; those without a partner of an IoU of .5 or more have none.
    """
    ranked = sorted(
        (-overlap, second, first)
        for first, one in enumerate(said)
        for second, other in enumerate(true)
        if (overlap := box_iou(one, other)) >= RIGHT_INSTANCE
    )
    partners: dict[int, int] = {}
    for _, second, first in ranked:
        if second not in partners and first not in partners.values():
            partners[second] = first
    return partners


def _labelled(prompt: Prompt, one: Object, ignored: Mask | None) -> Prompt:
    """The prompt with the true labels of its points."""
    if not prompt.points:
        return prompt
    mask = one.mask.mask
    return replace(prompt, points=tuple(_true(point, mask, ignored) for point in prompt.points))


def _true(point: Point, mask: Mask, ignored: Mask | None) -> Point:
    unknown = ignored is not None and on_mask(ignored, point.x, point.y)
    return point if unknown else replace(point, positive=on_mask(mask, point.x, point.y))
