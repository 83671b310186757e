"""From samples and predictions to numbers, on run lengths: no mask is drawn. Knows nothing of models and pictures.

Failures stay in the mean as the empty masks that they are.

    >>> score(read_samples(Path("data/refcoco/val")).samples, read_predictions(Path("out/val.jsonl")), "lavt")
    Scores(profile='lavt', n=10834, metrics={'cIoU': 0.79, ...}, box_accuracy=0.88, unreadable=3, ...)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.geometry import box_iou
from sam4mllm.metrics import PROFILES, Counts, count
from sam4mllm.predictions import Prediction
from sam4mllm.samples import Sample


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers of one set under one profile.

    Attributes:
        profile: whose conventions, a key of `metrics.PROFILES`.
        n: how many expressions.
        metrics: the profile's numbers by name, shares of 1; nan where a number has nothing to stand on.
        box_accuracy: the share of expressions with one target whose first predicted box has an IoU of .5 or more with
            the box around the true mask (comprehension's Acc@0.5); nan where there are none.
        unreadable: how many replies were neither places nor "none".
        failed: how many samples have an error in place of an answer.
        undeserved: how many expressions without a target have an empty mask, which counts as right, only because the
            reply was unreadable or the sample failed.
    """

    profile: str
    n: int
    metrics: Mapping[str, float]
    box_accuracy: float
    unreadable: int
    failed: int
    undeserved: int

    def to_json(self) -> dict[str, Any]:
        """All of it; null for nan, which JSON does not have."""
        return {
            "profile": self.profile,
            "n": self.n,
            "metrics": {name: _or_none(value) for name, value in self.metrics.items()},
            "box_accuracy": _or_none(self.box_accuracy),
            "unreadable": self.unreadable,
            "failed": self.failed,
            "undeserved": self.undeserved,
        }


def score(samples: Sequence[Sample], predictions: Sequence[Prediction], profile: str) -> Scores:
    """The numbers of predictions, one for each sample and no others, in any order.

    Args:
        samples: with the truth.
        predictions: as `predict` makes them.
        profile: ``lavt`` for RES, ``rela`` for GRES, ``lisa`` for ReasonSeg.

    Raises:
        UserError: for an unknown profile; for samples without a prediction, predictions without a sample or more than
            one for a sample (how many, and the first); for a mask of another size; for no samples.
    """
    if profile not in PROFILES:
        raise UserError(f"there is no profile {profile!r}: choose one of {', '.join(PROFILES)}")
    pairs = _paired(samples, predictions)
    counts = [_count(sample, prediction) for sample, prediction in pairs]
    hits = [_box_hit(sample, prediction) for sample, prediction in pairs if len(sample.masks) == 1]
    lost = [not prediction.readable or prediction.error is not None for _, prediction in pairs]
    return Scores(
        profile=profile,
        n=len(pairs),
        metrics=PROFILES[profile](counts),
        box_accuracy=sum(hits) / len(hits) if hits else math.nan,
        unreadable=sum(not prediction.readable for _, prediction in pairs),
        failed=sum(prediction.error is not None for _, prediction in pairs),
        undeserved=sum(bad and not each.union for bad, each in zip(lost, counts, strict=True)),
    )


def table(rows: Mapping[str, Scores]) -> str:
    """Scores of one profile as a Markdown table, a line per name; shares in percent, a dash for nan.

    Raises:
        UserError: for no scores, or scores of several profiles.
    """
    profiles = sorted({scores.profile for scores in rows.values()})
    if len(profiles) != 1:
        raise UserError(f"a table holds the scores of one profile, got {', '.join(profiles) or 'none'}")
    names = next(iter(rows.values())).metrics
    header = ["set", "n", *names, "box Acc@0.5", "unreadable", "failed", "undeserved"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, scores in rows.items():
        numbers = [*scores.metrics.values(), scores.box_accuracy, scores.unreadable / scores.n]
        lines.append([name, str(scores.n), *map(_percent, numbers), str(scores.failed), str(scores.undeserved)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _paired(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[tuple[Sample, Prediction]]:
    by_id = {prediction.id: prediction for prediction in predictions}
    known = {sample.id for sample in samples}
    _refuse("samples have no prediction", [sample.id for sample in samples if sample.id not in by_id])
    _refuse("predictions are of no sample", [prediction.id for prediction in predictions if prediction.id not in known])
    times = Counter(prediction.id for prediction in predictions)
    _refuse("samples have more than one prediction", [name for name, many in times.items() if many > 1])
    return [(sample, by_id[sample.id]) for sample in samples]


def _refuse(what: str, ids: Sequence[str]) -> None:
    if ids:
        raise UserError(f"{len(ids)} {what}, the first is {ids[0]}")


def _count(sample: Sample, prediction: Prediction) -> Counts:
    found, due = prediction.mask.size, (sample.height, sample.width)
    if found != due:
        raise UserError(f"the prediction of {sample.id} has (h, w) = {found}, its picture {due}")
    return count(sample.truth, prediction.mask, sample.ignore)


def _box_hit(sample: Sample, prediction: Prediction) -> bool:
    true = sample.truth.box
    return bool(true and prediction.prompts and box_iou(true, prediction.prompts[0].box) >= 0.5)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
