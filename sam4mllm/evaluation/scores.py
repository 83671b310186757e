"""Scores predictions on run lengths, without decoding a mask. Runs no model and reads no images.

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
    """The warning for scores of n predictions, of which ``oracle`` were made from the ground truth."""
    return (
        f"{oracle} of {n} predictions are an oracle's, whose prompts were made from the true masks: the ceiling of a "
        f"segmenter, and no number of a model"
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one set under one profile.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        n: number of expressions.
        metrics: the profile's metrics by name, 0..1; nan if a metric is undefined on these samples.
        box_accuracy: the share of expressions with one target whose first predicted box has an IoU of .5 or more with
            the box around the true mask (comprehension's Acc@0.5); nan if there are none, or no boxes are known.
        unreadable: number of expressions with a reply that was neither boxes nor "none".
        failed: number of samples with an error in place of an answer.
        undeserved: number of expressions without a target whose mask is empty only because the reply was unreadable or
            the sample failed; their IoU is 1 by every profile except ``lavt``, by which it is 0.
        signature: what the scores were computed with.
        intervals: the 95% intervals of the metrics and of the box accuracy by name; empty without a bootstrap.
        oracle: number of predictions made from the ground truth; if there are any, these are no scores of a model.
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
    """Scores predictions, one for each sample and no others, in any order.

    Args:
        samples: with ground truth.
        predictions: as `predict` makes them.
        profile: ``lavt`` for RES, ``rela`` for GRES, ``lisa`` for ReasonSeg, or another of `metrics.PROFILES`.
        bootstrap: of the intervals; None for no intervals.

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
        signature=Signature(evaluated.profile, len(evaluated), fingerprint(evaluated.samples), bootstrap),
        intervals=intervals(ratios, evaluated.images, bootstrap) if bootstrap else {},
        oracle=int(evaluated.oracle.sum()),
    )


def compared(first: EvaluatedSet, second: EvaluatedSet, bootstrap: Bootstrap) -> dict[str, tuple[float, float, float]]:
    """First minus second for each metric, with the 95% interval of a paired bootstrap over images.

    Raises:
        UserError: if the two have different profiles or samples.
    """
    signatures = [
        Signature(evaluated.profile, len(evaluated), fingerprint(evaluated.samples)) for evaluated in (first, second)
    ]
    if not comparable(*signatures):
        raise UserError(f"these numbers are not comparable: {signatures[0]} and {signatures[1]}")
    rows = {sample.id: row for row, sample in enumerate(second.samples)}
    aligned = second.select(np.array([rows[sample.id] for sample in first.samples], dtype=np.int64))
    return differences(first.ratios, aligned.ratios, first.images, bootstrap)


def table(rows: Mapping[str, Scores], what: str = "set") -> str:
    """Formats scores of one profile as a Markdown table, one row per name; in percent, a dash for nan.

    Intervals have a row of their own below the scores. The name of an oracle's scores is marked.

    Args:
        rows: by name.
        what: heading of the names.

    Raises:
        UserError: if there are no scores, or scores of several profiles.
    """
    profiles = sorted({scores.profile for scores in rows.values()})
    if len(profiles) != 1:
        raise UserError(f"a table holds the scores of one profile, got {', '.join(profiles) or 'none'}")
    names = next(iter(rows.values())).metrics
    header = [what, "n", *names, BOX, "unreadable", "failed", "undeserved"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, scores in rows.items():
        shown = f"{name} {ORACLE}" if scores.oracle else name
        numbers = [*scores.metrics.values(), scores.box_accuracy, scores.unreadable / scores.n]
        lines.append([shown, str(scores.n), *map(percent, numbers), str(scores.failed), str(scores.undeserved)])
        if scores.intervals:
            lines.append(["95% interval", "", *map(_range, scores.intervals.values()), "", "", ""])
    return markdown(lines)


def comparison(apart: Mapping[str, tuple[float, float, float]]) -> str:
    """Formats differences as a Markdown table, in percentage points with their sign."""
    lines = [["first less second", "points", "95% interval"], ["---", "---:", "---:"]]
    for name, numbers in apart.items():
        value, low, high = ("-" if math.isnan(number) else f"{100 * number:+.2f}" for number in numbers)
        lines.append([name, value, f"{low} to {high}" if low != "-" else "-"])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Formats rows of cells as a Markdown table; the second row is the rule below the header."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(value: float) -> str:
    """A share in percent, a dash for nan."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _range(ends: Interval) -> str:
    return "-" if math.isnan(ends[0]) else f"{percent(ends[0])} to {percent(ends[1])}"


def or_none(value: float) -> float | None:
    """None for nan, which JSON does not have."""
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class Scored:
    """What `sam4mllm score` prints of one file of predictions.

    Attributes:
        whole: the scores of all expressions.
        subsets: the scores by label, by the name of the subsets.
        apart: how much higher each metric is than for the other predictions, with the interval's ends.
        warnings: what a reader of the scores has to know, one line each.
    """

    whole: Scores
    subsets: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    apart: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def format_tables(self, name: str) -> str:
        """Markdown tables with their signatures; ``name`` is the name of the set."""
        parts = [table({name: self.whole})]
        for heading, scores in self.subsets.items():
            signatures = "".join(f"- {label}: `{part.signature}`\n" for label, part in scores.items())
            parts += [table(scores, what=heading), signatures]
        parts += [comparison(self.apart)] if self.apart else []
        return "\n".join([*parts, f"signature: {self.whole.signature}\n"])

    def to_json(self) -> dict[str, Any]:
        """The scores, those of subsets (key ``strata``), the differences (key ``against``) and the warnings."""
        strata = {
            name: {label: scores.to_json() for label, scores in parts.items()} for name, parts in self.subsets.items()
        }
        apart = {name: [or_none(number) for number in numbers] for name, numbers in self.apart.items()}
        return {**self.whole.to_json(), "strata": strata, "against": apart, "warnings": list(self.warnings)}


def scored(
    samples: Sequence[Sample],
    predictions: Path,
    profile: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    against: Path | None = None,
) -> Scored:
    """Scores the masks at a path.

    Args:
        samples: with ground truth.
        predictions: our JSON lines, a folder of PNGs, or a list of COCO RLE (see `external`).
        profile: a key of `metrics.PROFILES`.
        bootstrap: of the intervals.
        by: names of subsets, one table each.
        against: other predictions of the same samples.

    Raises:
        UserError: if a name is unknown; as `read_any` and `evaluate_set` do.
    """
    subsets = {name: subsets_named(name) for name in by}
    evaluated = count_at(samples, predictions, profile)
    whole = scores_of(evaluated, bootstrap)
    other = count_at(samples, against, profile) if against else None
    oracle = int(other.oracle.sum()) if other else 0
    return Scored(
        whole,
        {
            name: {label: scores_of(part, bootstrap) for label, part in by_label(evaluated, labels).items()}
            for name, labels in subsets.items()
        },
        compared(evaluated, other, bootstrap) if other else {},
        (*warnings(whole), *([f"{against}: {oracle_warning(oracle, len(samples))}"] if oracle else [])),
    )


def count_at(samples: Sequence[Sample], path: Path, profile: str) -> EvaluatedSet:
    """Pairs the masks at a path with their samples and counts pixels.

    Raises:
        UserError: as `read_any` and `evaluate_set` do.
    """
    profile_named(profile)
    masks = read_any(path, samples)
    return evaluate_set(samples, masks.outcomes, profile, masks.places)


def warnings(scores: Scores) -> list[str]:
    """What a reader of scores has to know, one line each."""
    messages = [profile_named(scores.profile).warning]
    if scores.oracle:
        messages.append(oracle_warning(scores.oracle, scores.n))
    return [message for message in messages if message]
