"""From samples and predictions to numbers, on run lengths: no mask is drawn. Knows nothing of models and pictures.

Failures stay in the mean as the empty masks that they are.

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
from sam4mllm.evaluation.pairing import BOX, Tally, by_label, tally
from sam4mllm.evaluation.signature import Signature, comparable, fingerprint
from sam4mllm.evaluation.subsets import stratum_named
from sam4mllm.prediction.record import Prediction

ORACLE = "(oracle, no model)"


def oracle_warning(oracle: int, n: int) -> str:
    """What has to be known of numbers of which so many of n predictions are an oracle's."""
    return (
        f"{oracle} of {n} predictions are an oracle's, whose prompts were made from the true masks: the ceiling of a "
        f"segmenter, and no number of a model"
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers of one set under one profile.

    Attributes:
        profile: whose conventions, a key of `metrics.PROFILES`.
        n: how many expressions.
        metrics: the profile's numbers by name, shares of 1; nan where a number has nothing to stand on.
        box_accuracy: the share of expressions with one target whose first predicted box has an IoU of .5 or more with
            the box around the true mask (comprehension's Acc@0.5); nan where there are none, or no boxes are known.
        unreadable: how many replies were neither places nor "none".
        failed: how many samples have an error in place of an answer.
        undeserved: how many expressions without a target have their empty mask only because the reply was unreadable
            or the sample failed; its IoU is 1 by every profile but ``lavt``, by which it is 0.
        signature: what the numbers were made with.
        intervals: the 95% intervals of the metrics and of the box accuracy by name, where they were asked for.
        oracle: how many predictions were drawn from the truth itself: no number of a model where there are any.
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
        """All of it; null for nan, which JSON does not have."""
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
    """The numbers of predictions, one for each sample and no others, in any order.

    Args:
        samples: with the truth.
        predictions: as `predict` makes them.
        profile: ``lavt`` for RES, ``rela`` for GRES, ``lisa`` for ReasonSeg, or another of `metrics.PROFILES`.
        bootstrap: of the intervals; none are made where None.

    Raises:
        UserError: as `tally` does.
    """
    return scores_of(tally(samples, predictions, profile), bootstrap)


def scores_of(counted: Tally, bootstrap: Bootstrap | None = None) -> Scores:
    """The numbers of what was counted."""
    ratios = counted.ratios
    numbers = {name: ratio.value for name, ratio in ratios.items()}
    lost = counted.unreadable | counted.failed
    return Scores(
        profile=counted.profile,
        n=len(counted),
        box_accuracy=numbers.pop(BOX),
        metrics=numbers,
        unreadable=int(counted.unreadable.sum()),
        failed=int(counted.failed.sum()),
        undeserved=int((lost & (counted.pixels.union == 0)).sum()),
        signature=Signature(counted.profile, len(counted), fingerprint(counted.samples), bootstrap),
        intervals=intervals(ratios, counted.pictures, bootstrap) if bootstrap else {},
        oracle=int(counted.oracle.sum()),
    )


def compared(first: Tally, second: Tally, bootstrap: Bootstrap) -> dict[str, tuple[float, float, float]]:
    """By how much each number of the first is higher, with a paired bootstrap's 95% interval over pictures.

    Raises:
        UserError: for tallies of several profiles or samples.
    """
    one, two = (Signature(each.profile, len(each), fingerprint(each.samples)) for each in (first, second))
    if not comparable(one, two):
        raise UserError(f"these numbers are not comparable: {one} and {two}")
    rows = {sample.id: row for row, sample in enumerate(second.samples)}
    same = second.of(np.array([rows[sample.id] for sample in first.samples], dtype=np.int64))
    return differences(first.ratios, same.ratios, first.pictures, bootstrap)


def table(rows: Mapping[str, Scores], what: str = "set") -> str:
    """Scores of one profile as a Markdown table, a line per name; shares in percent, a dash for nan.

    Where there are intervals, each has a line below its numbers. A name whose masks come from the truth says so.

    Args:
        rows: by name.
        what: the names are.

    Raises:
        UserError: for no scores, or scores of several profiles.
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
    """Differences as a Markdown table, in percentage points with their sign."""
    lines = [["first less second", "points", "95% interval"], ["---", "---:", "---:"]]
    for name, numbers in apart.items():
        value, low, high = ("-" if math.isnan(one) else f"{100 * one:+.2f}" for one in numbers)
        lines.append([name, value, f"{low} to {high}" if low != "-" else "-"])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the second one the rule, as Markdown."""
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
    """All that was asked of one file of predictions.

    Attributes:
        whole: the numbers of all expressions.
        strata: the numbers by label, by the name of the stratum.
        apart: by how much each number is higher than in other predictions, with the interval's ends.
        warnings: what has to be known of the numbers, one line each.
    """

    whole: Scores
    strata: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    apart: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """Markdown tables and their signatures, under the name of the set."""
        parts = [table({name: self.whole})]
        for stratum, scores in self.strata.items():
            parts += [
                table(scores, what=stratum),
                "".join(f"- {each}: `{one.signature}`\n" for each, one in scores.items()),
            ]
        parts += [comparison(self.apart)] if self.apart else []
        return "\n".join([*parts, f"signature: {self.whole.signature}\n"])

    def to_json(self) -> dict[str, Any]:
        """The whole's numbers, those of strata and differences by name, and what has to be known of them."""
        strata = {
            name: {label: scores.to_json() for label, scores in found.items()} for name, found in self.strata.items()
        }
        apart = {name: [or_none(one) for one in numbers] for name, numbers in self.apart.items()}
        return {**self.whole.to_json(), "strata": strata, "against": apart, "warnings": list(self.warnings)}


def scored(
    samples: Sequence[Sample],
    predictions: Path,
    profile: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    against: Path | None = None,
) -> Scored:
    """The numbers of the masks at a path.

    Args:
        samples: with the truth.
        predictions: our JSON lines, a folder of PNGs, or a list of COCO RLE (see `peers`).
        profile: a key of `metrics.PROFILES`.
        bootstrap: of the intervals.
        by: names of strata, a table each.
        against: other predictions of the same samples.

    Raises:
        UserError: for an unknown name; as `read_any` and `tally` do.
    """
    strata = {name: stratum_named(name) for name in by}
    counted = count_at(samples, predictions, profile)
    whole = scores_of(counted, bootstrap)
    second = count_at(samples, against, profile) if against else None
    ceiling = int(second.oracle.sum()) if second else 0
    return Scored(
        whole,
        {
            name: {label: scores_of(part, bootstrap) for label, part in by_label(counted, stratum).items()}
            for name, stratum in strata.items()
        },
        compared(counted, second, bootstrap) if second else {},
        (*warnings(whole), *([f"{against}: {oracle_warning(ceiling, len(samples))}"] if ceiling else [])),
    )


def count_at(samples: Sequence[Sample], path: Path, profile: str) -> Tally:
    """The masks at a path, paired with their samples and counted.

    Raises:
        UserError: as `read_any` and `tally` do.
    """
    profile_named(profile)
    found = read_any(path, samples)
    return tally(samples, found.outcomes, profile, found.places)


def warnings(scores: Scores) -> list[str]:
    """What has to be known of numbers, one line each."""
    said = [profile_named(scores.profile).warning]
    if scores.oracle:
        said.append(oracle_warning(scores.oracle, scores.n))
    return [one for one in said if one]
