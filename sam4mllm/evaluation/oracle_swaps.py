"""Replaces parts of a prediction by the ground truth, one stage at a time, and returns the prompts after each stage.

Each state keeps the corrections of the previous state and adds one, in this order:

1. ``redrawn``: the prompts as predicted.
2. ``unreadable``: if a reply could not be parsed, the ground-truth prompts: one box per object, no points.
3. ``false none``: if "none" was predicted but there is a target, the ground-truth prompts.
4. ``missed none``: if prompts were predicted but there is no target, no prompts.
5. ``wrong instance``: predicted and true boxes with an IoU of .5 or more are paired, the highest IoU first, each box
   once. An unpaired true box becomes a prompt without points. An unpaired predicted box is dropped with its points:
   they were placed for another object, so correcting their labels would not help.
6. ``loose box``: each paired box is replaced by the true box; its points do not move.
7. ``point labels``: each point gets its label from the object's true mask, except points on ignored pixels.

The segmenter accounts for the loss that remains after the last state. Runs no segmenter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Box, Mask, Point, Prompt, box_iou, is_on_mask
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction

FAILED, REDRAWN, UNREADABLE, FALSE_NONE, MISSED_NONE = "failed", "redrawn", "unreadable", "false none", "missed none"
WRONG_INSTANCE, LOOSE_BOX, POINT_LABELS, SEGMENTER = "wrong instance", "loose box", "point labels", "segmenter"
STATES = (REDRAWN, UNREADABLE, FALSE_NONE, MISSED_NONE, WRONG_INSTANCE, LOOSE_BOX, POINT_LABELS)
STAGES = (FAILED, *STATES, SEGMENTER)
"""The stages that can lose IoU, in order: a failed sample, the stage that each state corrects, and the segmenter."""
RIGHT_INSTANCE = 0.5  # box IoU at which Acc@0.5 of referring expression comprehension counts a hit


@dataclass(frozen=True, slots=True)
class GroundTruthObject:
    """One ground-truth object: its mask, which is never empty, and the box around it."""

    mask: Rle
    box: Box


def ground_truth_objects(sample: Sample) -> list[GroundTruthObject]:
    """The target objects of a sample; empty masks are left out."""
    boxes = [(mask, mask.box) for mask in sample.masks]
    return [GroundTruthObject(mask, box) for mask, box in boxes if box is not None]


def oracle_states(sample: Sample, prediction: Prediction) -> list[tuple[Prompt, ...]]:
    """The prompts of each of `STATES`, in order; ``()`` is the empty mask.

    Args:
        sample: a sample with ground truth.
        prediction: a prediction that did not fail.
    """
    objects = ground_truth_objects(sample)
    true, predicted = tuple(Prompt(target.box) for target in objects), prediction.prompts
    readable = predicted if predicted or prediction.readable else true
    not_false_none = readable or true
    present = not_false_none if true else ()
    partners = match_boxes([prompt.extent for prompt in present], [target.box for target in objects])
    # from here on there is one prompt per object, in the order of the objects
    instances = tuple(present[partners[index]] if index in partners else prompt for index, prompt in enumerate(true))
    boxed = tuple(replace(prompt, box=target.box) for prompt, target in zip(instances, objects, strict=True))
    ignored = sample.ignore.mask if sample.ignore and any(prompt.points for prompt in boxed) else None
    labelled = tuple(_relabel(prompt, target, ignored) for prompt, target in zip(boxed, objects, strict=True))
    return [predicted, readable, not_false_none, present, instances, boxed, labelled]


def changed_stages(sample: Sample, prediction: Prediction) -> list[str]:
    """The stages at which the prompts change, in order; whether the IoU changes too depends on the segmenter."""
    if prediction.error is not None:
        return [FAILED]
    states = oracle_states(sample, prediction)
    transitions = zip(STATES[1:], states, states[1:], strict=False)
    return [stage for stage, before, after in transitions if set(before) != set(after)]


def match_boxes(predicted: Sequence[Box], true: Sequence[Box]) -> dict[int, int]:
    """Pairs boxes one to one, the highest IoU first.

    Args:
        predicted: predicted boxes.
        true: ground-truth boxes.

    Returns:
        The index of the predicted box, by the index of the true box; pairs with an IoU below .5 are left out.
    """
    ranked = sorted(
        (-overlap, true_index, predicted_index)
        for predicted_index, box in enumerate(predicted)
        for true_index, true_box in enumerate(true)
        if (overlap := box_iou(box, true_box)) >= RIGHT_INSTANCE
    )
    partners: dict[int, int] = {}
    for _, true_index, predicted_index in ranked:
        if true_index not in partners and predicted_index not in partners.values():
            partners[true_index] = predicted_index
    return partners


def _relabel(prompt: Prompt, target: GroundTruthObject, ignored: Mask | None) -> Prompt:
    """The prompt with its point labels taken from the true mask."""
    if not prompt.points:
        return prompt
    mask = target.mask.mask
    return replace(prompt, points=tuple(_relabel_point(point, mask, ignored) for point in prompt.points))


def _relabel_point(point: Point, mask: Mask, ignored: Mask | None) -> Point:
    unknown = ignored is not None and is_on_mask(ignored, point.x, point.y)
    return point if unknown else replace(point, positive=is_on_mask(mask, point.x, point.y))
