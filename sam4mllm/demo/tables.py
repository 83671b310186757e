"""What a demonstration shows: tables of numbers, and a sheet of masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.demo.recipe import BASE, LONGER, WAYS
from sam4mllm.evaluation.differences import difference, table
from sam4mllm.images.files import read_image
from sam4mllm.images.overlay import AnySize, contact_sheet, overlay
from sam4mllm.prediction.record import Prediction
from sam4mllm.synthetic.shards import AMBIGUOUS


def summary(samples: list[Sample], predictions: Mapping[str, list[Prediction]]) -> str:
    """The tables of all expressions and of the ambiguous ones, and what points are worth on the latter."""
    parts = ["## All expressions", table(samples, predictions)]
    ambiguous = [sample for sample in samples if sample.id.endswith(AMBIGUOUS)]
    if ambiguous:
        ids = {sample.id for sample in ambiguous}
        found = {name: [one for one in each if one.id in ids] for name, each in predictions.items()}
        parts += ["## Expressions whose target shares its box with another figure (IoU >= .6)", table(ambiguous, found)]
        parts.append(
            f"Differences of cIoU, with the 95% interval over the {len({one.image for one in ambiguous})} pictures of "
            f"the test (one training each):"
        )
        for better, worse in pairs(found):
            apart, low, high = difference(ambiguous, found[better], found[worse])
            parts.append(f"- {better} less {worse}: {apart:+.1f} ({low:+.1f} to {high:+.1f})")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def pairs(found: Iterable[str]) -> list[tuple[str, str]]:
    """Which ways are held against each other: points against the base's own box, and PQPP against PPG."""
    names = [f"{taught}{way}" for taught in ("", LONGER) for way in ("ppg", "pqpp")]
    against = [(name, f"{BASE}box") for name in names] + [("pqpp", "ppg"), (f"{LONGER}pqpp", f"{LONGER}ppg")]
    return [pair for pair in against if set(pair) <= set(found)]


def sheet(samples: SampleSet, predictions: Mapping[str, list[Prediction]], pictures: int) -> AnySize:
    """A contact sheet: one sample of each picture that has targets, ambiguous ones first, a column for each way.

    Of what was taught for longer, where it was asked.
    """
    there = [[name for name in (LONGER + way, way) if name in predictions] for way in WAYS]
    columns = [*(names[0] for names in there if names), "oracle"]
    by_id = {name: {one.id: one for one in predictions[name]} for name in columns}
    targeted = sorted((one for one in samples if one.masks), key=lambda one: not one.id.endswith(AMBIGUOUS))
    shown = {sample.image: sample for sample in reversed(targeted)}  # the first of each picture
    targeted = [sample for sample in targeted if sample is shown[sample.image]]
    tiles = [
        overlay(
            read_image(samples.path(sample)),
            by_id[name][sample.id].prompts,
            [by_id[name][sample.id].mask.mask],
            f"{name}: {sample.phrase}",
        )
        for sample in targeted[:pictures]
        for name in columns
    ]
    return contact_sheet(tiles, len(columns), (336, 380))
