"""The demo's results: tables of scores, and a contact sheet of masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.demo.recipe import BASE, LONGER, WAYS
from sam4mllm.evaluation.differences import difference, table
from sam4mllm.images.files import read_image
from sam4mllm.images.overlay import AnySize, contact_sheet, overlay
from sam4mllm.prediction.record import Prediction
from sam4mllm.synthetic.shards import AMBIGUOUS


def format_tables(samples: list[Sample], predictions: Mapping[str, list[Prediction]]) -> str:
    """The tables of all expressions and of ambiguous ones, with the differences that points make on the latter."""
    parts = ["## All expressions", table(samples, predictions)]
    ambiguous = [sample for sample in samples if sample.id.endswith(AMBIGUOUS)]
    if ambiguous:
        ids = {sample.id for sample in ambiguous}
        subset = {
            name: [prediction for prediction in entries if prediction.id in ids]
            for name, entries in predictions.items()
        }
        n_images = len({sample.image for sample in ambiguous})
        parts += [
            "## Expressions with a target that shares its box with another figure (IoU >= .6)",
            table(ambiguous, subset),
            f"Differences of cIoU, with the 95% interval over the {n_images} test images (one training run each):",
        ]
        for better, worse in pairs(subset):
            gain, low, high = difference(ambiguous, subset[better], subset[worse])
            parts.append(f"- {better} minus {worse}: {gain:+.1f} ({low:+.1f} to {high:+.1f})")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def pairs(available: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of pipelines to compare: points with the base's box, and PQPP with PPG."""
    names = [f"{prefix}{way}" for prefix in ("", LONGER) for way in ("ppg", "pqpp")]
    candidates = [(name, f"{BASE}box") for name in names] + [("pqpp", "ppg"), (f"{LONGER}pqpp", f"{LONGER}ppg")]
    return [pair for pair in candidates if set(pair) <= set(available)]


def make_sheet(samples: SampleSet, predictions: Mapping[str, list[Prediction]], images: int) -> AnySize:
    """A contact sheet with a row per image and a column per prompter; images of ambiguous samples come first.

    A longer trained adapter replaces the demo's adapter if it has predictions. Samples without masks are not shown.
    """
    alternatives = [[name for name in (LONGER + way, way) if name in predictions] for way in WAYS]
    columns = [*(names[0] for names in alternatives if names), "oracle"]
    by_id = {name: {prediction.id: prediction for prediction in predictions[name]} for name in columns}
    targeted = sorted(
        (sample for sample in samples if sample.masks), key=lambda sample: not sample.id.endswith(AMBIGUOUS)
    )
    first = {sample.image: sample for sample in reversed(targeted)}  # the first sample of each image
    targeted = [sample for sample in targeted if sample is first[sample.image]]
    tiles = [
        overlay(
            read_image(samples.path(sample)),
            by_id[name][sample.id].prompts,
            [by_id[name][sample.id].mask.mask],
            f"{name}: {sample.phrase}",
        )
        for sample in targeted[:images]
        for name in columns
    ]
    return contact_sheet(tiles, len(columns), (336, 380))
