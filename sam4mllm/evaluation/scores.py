"""Scores predictions from run-length-encoded masks, without decoding them. Runs no model.

A failed sample counts as an empty mask.

    >>> score(read_samples(Path("data/refcoco/val")).samples, read_predictions(Path("out/val.jsonl")), "lavt")
    Scores(profile='lavt', n=10834, metrics={'cIoU': 0.79, ...}, box_accuracy=0.88, unreadable=3, ...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap, Interval, differences, intervals
from sam4mllm.evaluation.external import read_any
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.pairing import BOX, EvaluatedSet, by_label, evaluate_set
from sam4mllm.evaluation.signature import Signature, comparable, fingerprint
from sam4mllm.evaluation.subsets import subsets_named
from sam4mllm.prediction.record import Prediction

ORACLE = "(oracle, no model)"


def oracle_warning(oracle: int, n: int) -> str:
    """The warning for scores of n predictions if ``oracle`` of them were made from the ground truth."""
    return (
        f"{oracle} of {n} predictions come from an oracle, with prompts made from the ground truth: they show the "
        f"segmenter's ceiling, not a model's score"
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one dataset under one profile.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        n: number of expressions.
        metrics: the profile's metrics by name, 0..1; nan if a metric is undefined on these samples.
        box_accuracy: Acc@0.5 of the first predicted box against the box around the ground truth, over expressions with
            one target; nan if there are none, or no boxes are known.
        unreadable: number of expressions with a reply that was neither boxes nor "none".
        failed: number of samples with an error instead of an answer.
        undeserved: number of no-target expressions whose mask is empty because of an unreadable reply or a failed
            sample, not because of an answer. Every profile except ``lavt`` still scores them 1.
        signature: records how the scores were computed.
        intervals: 95% intervals of the metrics and of the box accuracy by name; empty without a bootstrap.
        oracle: number of predictions made from the ground truth; if it is not 0, these are not a model's scores.
    """

    profile: str
    n: int
    metrics: Mapping[str, float]
    box_accuracy: float
    unreadable: int
    failed: int
    undeserved: int
    signature: Signature
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    oracle: int = 0

    def to_json(self) -> dict[str, Any]:
        """All fields; null for nan, which JSON does not have."""
        return {
            "profile": self.profile,
            "n": self.n,
            "metrics": {name: or_none(value) for name, value in self.metrics.items()},
            "box_accuracy": or_none(self.box_accuracy),
            "unreadable": self.unreadable,
            "failed": self.failed,
            "undeserved": self.undeserved,
            "oracle": self.oracle,
            "intervals": {name: [or_none(end) for end in ends] for name, ends in self.intervals.items()},
            "signature": self.signature.to_json(),
        }


def score(
    samples: Sequence[Sample], predictions: Sequence[Prediction], profile: str, bootstrap: Bootstrap | None = None
) -> Scores:
    """The scores of predictions: exactly one for each sample, in any order.

    Args:
        samples: samples with ground truth.
        predictions: predictions written by `predict`.
        profile: ``lavt`` for RES, ``rela`` for GRES, ``lisa`` for ReasonSeg, or another of `metrics.PROFILES`.
        bootstrap: settings of the intervals; None for no intervals.

    Raises:
        UserError: as `evaluate_set` does.
    """
    return scores_of(evaluate_set(samples, predictions, profile), bootstrap)


def scores_of(evaluated: EvaluatedSet, bootstrap: Bootstrap | None = None) -> Scores:
    """The scores of an evaluated set; intervals only if a bootstrap is given."""
    ratios = evaluated.ratios
    metrics = {name: ratio.value for name, ratio in ratios.items()}
    no_answer = evaluated.unreadable | evaluated.failed
    return Scores(
        profile=evaluated.profile,
        n=len(evaluated),
        box_accuracy=metrics.pop(BOX),
        metrics=metrics,
        unreadable=int(evaluated.unreadable.sum()),
        failed=int(evaluated.failed.sum()),
        undeserved=int((no_answer & (evaluated.pixels.union == 0)).sum()),
        signature=_make_signature(evaluated, bootstrap),
        intervals=intervals(ratios, evaluated.images, bootstrap) if bootstrap else {},
        oracle=int(evaluated.oracle.sum()),
    )


def score_differences(
    first: EvaluatedSet, second: EvaluatedSet, bootstrap: Bootstrap
) -> dict[str, tuple[float, float, float]]:
    """First minus second for each metric, with the 95% interval of a paired bootstrap over images.

    Raises:
        UserError: if the two have different profiles or samples.
    """
    signatures = [_make_signature(evaluated) for evaluated in (first, second)]
    if not comparable(*signatures):
        raise UserError(f"these scores are not comparable: {signatures[0]} and {signatures[1]}")
    rows = {sample.id: row for row, sample in enumerate(second.samples)}
    aligned = second.select(np.array([rows[sample.id] for sample in first.samples], dtype=np.int64))
    return differences(first.ratios, aligned.ratios, first.images, bootstrap)


def _make_signature(evaluated: EvaluatedSet, bootstrap: Bootstrap | None = None) -> Signature:
    return Signature(evaluated.profile, len(evaluated), fingerprint(evaluated.samples), bootstrap)


def table(rows: Mapping[str, Scores], what: str = "set") -> str:
    """Formats scores of one profile as a Markdown table with one row per name, in percent; a dash stands for nan.

    Intervals follow in a second row. Scores with oracle predictions are marked.

    Args:
        rows: scores by name.
        what: heading of the column of names.

    Raises:
        UserError: if there are no scores, or scores of several profiles.
    """
    profiles = sorted({scores.profile for scores in rows.values()})
    if len(profiles) != 1:
        raise UserError(f"a table can only show scores of one profile, got {', '.join(profiles) or 'none'}")
    names = next(iter(rows.values())).metrics
    header = [what, "n", *names, BOX, "unreadable", "failed", "undeserved"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, scores in rows.items():
        label = f"{name} {ORACLE}" if scores.oracle else name
        numbers = [*scores.metrics.values(), scores.box_accuracy, scores.unreadable / scores.n]
        lines.append([label, str(scores.n), *map(percent, numbers), str(scores.failed), str(scores.undeserved)])
        if scores.intervals:
            lines.append(["95% interval", "", *map(format_interval, scores.intervals.values()), "", "", ""])
    return markdown(lines)


def format_differences(differences: Mapping[str, tuple[float, float, float]]) -> str:
    """Formats differences as a Markdown table, in percentage points with their sign."""
    lines = [["first minus second", "points", "95% interval"], ["---", "---:", "---:"]]
    for name, numbers in differences.items():
        value, low, high = ("-" if math.isnan(number) else f"{100 * number:+.2f}" for number in numbers)
        lines.append([name, value, f"{low} to {high}" if low != "-" else "-"])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Formats rows of cells as a Markdown table; the second row is the rule below the header."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(value: float) -> str:
    """A share of 1 in percent, or a dash for nan."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def format_interval(ends: Interval) -> str:
    """The ends in percent, or a dash for nan."""
    return "-" if math.isnan(ends[0]) else f"{percent(ends[0])} to {percent(ends[1])}"


def or_none(value: float) -> float | None:
    """The value, or None for nan, which JSON does not have."""
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What `sam4mllm score` prints for one file of predictions.

    Attributes:
        all: scores over all expressions.
        subsets: subset name -> label -> scores.
        differences: each metric minus that of the other predictions, with the ends of the interval.
        warnings: caveats that a reader of the scores needs, one line each.
    """

    all: Scores
    subsets: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    differences: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def format_tables(self, name: str) -> str:
        """Markdown tables with their signatures; ``name`` is the name of the dataset."""
        parts = [table({name: self.all})]
        for heading, scores in self.subsets.items():
            signatures = "".join(f"- {label}: `{part.signature}`\n" for label, part in scores.items())
            parts += [table(scores, what=heading), signatures]
        parts += [format_differences(self.differences)] if self.differences else []
        return "\n".join([*parts, f"signature: {self.all.signature}\n"])

    def to_json(self) -> dict[str, Any]:
        """The scores, with subsets under ``strata``, differences under ``against``, and the warnings."""
        strata = {
            name: {label: scores.to_json() for label, scores in parts.items()} for name, parts in self.subsets.items()
        }
        differences = {name: [or_none(number) for number in numbers] for name, numbers in self.differences.items()}
        return {**self.all.to_json(), "strata": strata, "against": differences, "warnings": list(self.warnings)}


def score_files(
    samples: Sequence[Sample],
    predictions: Path,
    profile: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    against: Path | None = None,
) -> ScoreReport:
    """The scores of the masks at a path.

    Args:
        samples: samples with ground truth.
        predictions: JSON Lines from `predict`, a folder of PNGs, or a list of COCO RLE (see `external`).
        profile: a key of `metrics.PROFILES`.
        bootstrap: settings of the intervals.
        by: names of subsets; each adds a table.
        against: predictions of the same samples to compare with.

    Raises:
        UserError: if a name is unknown; as `read_any` and `evaluate_set` do.
    """
    subsets = {name: subsets_named(name) for name in by}
    evaluated = evaluate_file(samples, predictions, profile)
    scores = scores_of(evaluated, bootstrap)
    other = evaluate_file(samples, against, profile) if against else None
    oracle = int(other.oracle.sum()) if other else 0
    return ScoreReport(
        scores,
        {
            name: {label: scores_of(part, bootstrap) for label, part in by_label(evaluated, labels).items()}
            for name, labels in subsets.items()
        },
        score_differences(evaluated, other, bootstrap) if other else {},
        (*warnings(scores), *([f"{against}: {oracle_warning(oracle, len(samples))}"] if oracle else [])),
    )


def evaluate_file(samples: Sequence[Sample], path: Path, profile: str) -> EvaluatedSet:
    """Pairs the masks at a path with their samples and counts pixels.

    Raises:
        UserError: as `read_any` and `evaluate_set` do.
    """
    profile_named(profile)
    masks = read_any(path, samples)
    return evaluate_set(samples, masks.outcomes, profile, masks.places)


def warnings(scores: Scores) -> list[str]:
    """Caveats that a reader of the scores needs, one line each."""
    messages = [profile_named(scores.profile).warning]
    if scores.oracle:
        messages.append(oracle_warning(scores.oracle, scores.n))
    return [message for message in messages if message]
