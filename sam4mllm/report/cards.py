"""The images of a report: selects samples and draws their cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.evaluation.attribution import format_signed
from sam4mllm.evaluation.oracle_swaps import STAGES, changed_stages
from sam4mllm.geometry.prompts import Image
from sam4mllm.images.overlay import overlay
from sam4mllm.prediction.record import Prediction
from sam4mllm.report.html import HtmlCard, PageSection, Panel
from sam4mllm.report.panels import check_size, make_panel, read_image_or_error
from sam4mllm.report.run import Run

STAGE_TEXTS: Mapping[str, str] = {
    "failed": "The prediction failed with an error.",
    "redrawn": "The diagnosing segmenter redraws another mask from the same prompts.",
    "unreadable": "The reply could not be parsed: it has neither coordinates nor a none.",
    "false none": "The model answered none, but there is a target.",
    "missed none": "The model predicted a target, but there is none.",
    "wrong instance": "A predicted box has an IoU below 0.5 with every true box, or a true box was missed.",
    "loose box": "The box is around the right object, but not tight.",
    "point labels": "Positive points off the object, or negative points on it.",
    "segmenter": "Loss that remains with ground-truth boxes and point labels.",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Samples to show under a heading, and how they were selected."""

    heading: str
    text: str
    samples: Sequence[Sample]


def select_samples(run: Run, baseline: Run | None, limit: int) -> list[Selection]:
    """The samples to show, at most ``limit`` for each heading.

    First the largest changes against the baseline, then the best and the worst samples that have a target, then the
    samples that lost most at each stage. Without a diagnosis only the stages that the prompts reveal are filled.
    """
    with_target = [sample for sample in run.tally.samples if sample.masks]
    ious = run.ious
    best = _lowest(with_target, lambda sample: -ious[sample.id], limit)
    worst = _lowest(with_target, lambda sample: ious[sample.id], limit)
    return [
        *(_select_changes(run, baseline, limit) if baseline else []),
        Selection("Best", "Expressions with a target, highest IoU first.", best),
        Selection("Worst", "Expressions with a target, lowest IoU first.", worst),
        *(Selection(f"Lost to: {stage}", STAGE_TEXTS[stage], _select_failures(run, stage, limit)) for stage in STAGES),
    ]


def draw_sections(selections: Sequence[Selection], samples: SampleSet, runs: Sequence[Run]) -> list[PageSection]:
    """A section for each selection. A sample is drawn once; an unreadable image leaves a card with the reason."""
    selected = {sample.id: sample for selection in selections for sample in selection.samples}
    cards = {sample_id: _draw_card(sample, samples, runs) for sample_id, sample in selected.items()}
    return [
        PageSection(selection.heading, selection.text, [cards[sample.id] for sample in selection.samples])
        for selection in selections
    ]


def _select_changes(run: Run, baseline: Run, limit: int) -> list[Selection]:
    differences = {sample_id: iou - baseline.ious[sample_id] for sample_id, iou in run.ious.items()}
    better = [sample for sample in run.tally.samples if differences[sample.id] > 0]
    worse = [sample for sample in run.tally.samples if differences[sample.id] < 0]
    equal = len(differences) - len(better) - len(worse)
    text = f"IoU of all expressions: {len(better):,} higher, {len(worse):,} lower, {equal:,} equal."
    rises = _lowest(better, lambda sample: -differences[sample.id], limit)
    falls = _lowest(worse, lambda sample: differences[sample.id], limit)
    return [
        Selection(f"Better than {baseline.name}", text, rises),
        Selection(f"Worse than {baseline.name}", text, falls),
    ]


def _select_failures(run: Run, stage: str, limit: int) -> list[Sample]:
    """The samples with the largest loss at a stage; without a diagnosis, the lowest IoUs that first fail at it."""
    samples, ledger, ious = run.tally.samples, run.ledger, run.ious
    if ledger:
        losers = [sample for sample in samples if ledger[sample.id].lost.get(stage, 0) > 0]
        return _lowest(losers, lambda sample: -ledger[sample.id].lost[stage], limit)
    imperfect = [sample for sample in samples if ious[sample.id] < 1]
    losers = [sample for sample in imperfect if changed_stages(sample, run.predictions[sample.id])[:1] == [stage]]
    return _lowest(losers, lambda sample: ious[sample.id], limit)


def _lowest(samples: Sequence[Sample], key: Callable[[Sample], float], limit: int) -> list[Sample]:
    """The samples with the lowest keys; ties keep their order."""
    return sorted(samples, key=key)[:limit]


def _draw_card(sample: Sample, samples: SampleSet, runs: Sequence[Run]) -> HtmlCard:
    image = read_image_or_error(samples.path(sample))
    if not isinstance(image, str):
        image = check_size(image, sample.width, sample.height)
    prediction = runs[0].predictions[sample.id]
    return HtmlCard(
        phrase=sample.phrase,
        sample_id=sample.id,
        facts=tuple(_facts(sample, runs[0])),
        panels=() if isinstance(image, str) else tuple(_draw_panels(image, sample, runs)),
        fault=image if isinstance(image, str) else prediction.error or "",
        iou=runs[0].ious[sample.id],
        iou_label="IoU",
        replies=tuple(_replies(sample, runs)),
    )


def _draw_panels(image: Image, sample: Sample, runs: Sequence[Run]) -> list[Panel]:
    """The ground truth, then each run's prompts and mask."""
    masks = [rle.mask for rle in sample.masks]
    panels = [make_panel(overlay(image, [], masks), "ground truth" if masks else "ground truth: no target")]
    for run in runs:
        prediction = run.predictions[sample.id]
        mask = prediction.counted
        overlaid = overlay(image, prediction.prompts, [mask.mask] if mask.area else [])
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        panels.append(make_panel(overlaid, f"{prefix}{_outcome(prediction)}, IoU {run.ious[sample.id]:.3f}"))
    return panels


def _outcome(prediction: Prediction) -> str:
    if prediction.error is not None:
        return "failed"
    if prediction.prompts:
        return "predicted"
    return "none" if prediction.readable else "unreadable"


def _facts(sample: Sample, run: Run) -> list[str]:
    """Numbers of objects and points, and the loss of each stage in points of IoU."""
    prediction = run.predictions[sample.id]
    points = [point for prompt in prediction.prompts for point in prompt.points]
    positive = sum(point.positive for point in points)
    facts = [f"{len(sample.masks)} objects"] if len(sample.masks) > 1 else []
    facts += [f"{positive} positive, {len(points) - positive} negative points"] if points else []
    facts += [f"of {len(prediction.point_answers)} asked"] if prediction.point_answers else []
    entry = run.ledger.get(sample.id)
    facts += [f"{stage} {format_signed(loss)}" for stage, loss in entry.lost.items()] if entry else []
    return facts


def _replies(sample: Sample, runs: Sequence[Run]) -> list[str]:
    """All replies, with the run's name if there are two runs, and a mark on replies that were cut off."""
    return [
        f"{f'{run.name}: ' if len(runs) > 1 else ''}{reply.text}{'' if reply.finished else ' … (cut off)'}"
        for run in runs
        for reply in run.predictions[sample.id].replies
    ]
