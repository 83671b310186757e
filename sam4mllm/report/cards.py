"""The pictures of a report: which samples are shown, and how. Knows nothing of HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.evaluation.attribution import signed
from sam4mllm.evaluation.oracle_swaps import STAGES, changed
from sam4mllm.geometry.prompts import Image
from sam4mllm.images.overlay import overlay
from sam4mllm.prediction.record import Prediction
from sam4mllm.report.html import Card, Panel, Section
from sam4mllm.report.panels import checked, panel, picture_or_why
from sam4mllm.report.run import Run

LINES: Mapping[str, str] = {
    "failed": "There is an error in place of an answer.",
    "redrawn": "The mask differs from what its own prompts draw again: the segmenter was another one.",
    "unreadable": "The reply was neither places nor a none.",
    "false none": "None was said, and there is one.",
    "missed none": "Something was said, and there is none.",
    "wrong instance": "A box has no IoU of .5 with any true box, or a true box was not found.",
    "loose box": "The right object, in a box that is not tight.",
    "point labels": "Points that say on or off, and are wrong.",
    "segmenter": "What a true box and true labels still lack.",
}


def picked(run: Run, other: Run | None, many: int) -> list[tuple[str, str, list[Sample]]]:
    """What is shown: a heading, a line, and samples, at most ``many`` for each.

    The changes to another run first, then the best and the worst of those that have a target, and each kind of failure:
    by what it lost, where there is a diagnosis, and otherwise the kinds that can be told without drawing.
    """
    samples = run.tally.samples
    targeted = [sample for sample in samples if sample.masks]
    ious = run.ious
    return [
        *(_changes(run, other, many) if other else []),
        ("The best", "By IoU, of expressions with a target.", _first(targeted, lambda one: -ious[one.id], many)),
        ("The worst", "By IoU, of expressions with a target.", _first(targeted, lambda one: ious[one.id], many)),
        *((f"Lost to: {stage}", LINES[stage], _failures(run, stage, many)) for stage in STAGES),
    ]


def sections(
    chosen: Sequence[tuple[str, str, Sequence[Sample]]], samples: SampleSet, runs: Sequence[Run]
) -> list[Section]:
    """The same with their pictures drawn, a sample's once; one that cannot be read leaves a card that says why."""
    shown = {one.id: one for _, _, some in chosen for one in some}
    cards = {name: _card(one, samples, runs) for name, one in shown.items()}
    return [Section(heading, line, [cards[one.id] for one in some]) for heading, line, some in chosen]


def _changes(run: Run, other: Run, many: int) -> list[tuple[str, str, list[Sample]]]:
    apart = {name: iou - other.ious[name] for name, iou in run.ious.items()}
    better = [sample for sample in run.tally.samples if apart[sample.id] > 0]
    worse = [sample for sample in run.tally.samples if apart[sample.id] < 0]
    same = len(apart) - len(better) - len(worse)
    line = f"{len(better):,} rose, {len(worse):,} fell, {same:,} are the same."
    return [
        (f"Better than {other.name}", line, _first(better, lambda one: -apart[one.id], many)),
        (f"Worse than {other.name}", line, _first(worse, lambda one: apart[one.id], many)),
    ]


def _failures(run: Run, stage: str, many: int) -> list[Sample]:
    """The samples that lost most to a stage; without a diagnosis, the worst that it had something to mend in."""
    samples, ledger, ious = run.tally.samples, run.ledger, run.ious
    if ledger:
        found = [sample for sample in samples if ledger[sample.id].lost.get(stage, 0) > 0]
        return _first(found, lambda one: -ledger[one.id].lost[stage], many)
    found = [one for one in samples if ious[one.id] < 1 and changed(one, run.predictions[one.id])[:1] == [stage]]
    return _first(found, lambda one: ious[one.id], many)


def _first(samples: Sequence[Sample], key: Callable[[Sample], object], many: int) -> list[Sample]:
    """Those of the lowest keys; equals in their order."""
    ranked: list[Sample] = sorted(samples, key=key)  # type: ignore[arg-type]  # fractions, which compare
    return ranked[:many]


def _card(sample: Sample, samples: SampleSet, runs: Sequence[Run]) -> Card:
    image = picture_or_why(samples.path(sample))
    seen = image if isinstance(image, str) else checked(image, sample.width, sample.height)
    own = runs[0].predictions[sample.id]
    return Card(
        phrase=sample.phrase,
        name=sample.id,
        facts=tuple(_facts(sample, runs)),
        panels=() if isinstance(seen, str) else tuple(_panels(seen, sample, runs)),
        fault=seen if isinstance(seen, str) else own.error or "",
        iou=float(runs[0].ious[sample.id]),
        iou_word="IoU",
        replies=tuple(_replies(sample, runs)),
    )


def _panels(image: Image, sample: Sample, runs: Sequence[Run]) -> list[Panel]:
    """The truth beside what each run said and drew."""
    masks = [rle.mask for rle in sample.masks]
    panels = [panel(overlay(image, [], masks), "truth" if masks else "truth: nothing is meant")]
    for run in runs:
        said = run.predictions[sample.id]
        drawn = overlay(image, said.prompts, [said.counted.mask] if said.counted.area else [])
        named = f"{run.name}: " if len(runs) > 1 else ""
        panels.append(panel(drawn, f"{named}{_word(said)}, IoU {float(run.ious[sample.id]):.3f}"))
    return panels


def _word(said: Prediction) -> str:
    if said.error is not None:
        return "failed"
    if said.prompts:
        return "predicted"
    return "none" if said.readable else "unreadable"


def _facts(sample: Sample, runs: Sequence[Run]) -> list[str]:
    """What was lost where, in points; and a few words of the sample."""
    facts = [f"{len(sample.masks)} objects"] if len(sample.masks) > 1 else []
    points = [point for prompt in runs[0].predictions[sample.id].prompts for point in prompt.points]
    on = sum(point.positive for point in points)
    facts += [f"{on} points on, {len(points) - on} off"] if points else []
    facts += [f"of {len(runs[0].predictions[sample.id].asked)} asked"] if runs[0].predictions[sample.id].asked else []
    entry = runs[0].ledger.get(sample.id)
    facts += [f"{stage} {signed(term)}" for stage, term in entry.lost.items()] if entry else []
    return facts


def _replies(sample: Sample, runs: Sequence[Run]) -> list[str]:
    """Every reply, with its run where there are two; one that was cut says so."""
    return [
        f"{f'{run.name}: ' if len(runs) > 1 else ''}{reply.text}{'' if reply.finished else ' … (cut off)'}"
        for run in runs
        for reply in run.predictions[sample.id].replies
    ]
