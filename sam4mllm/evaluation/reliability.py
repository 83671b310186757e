"""The reliability curve of the model's answers about points: the share of points on the object, by P(yes).

Only points with a separate question have a probability (`Prediction.point_answers`). A point is compared with the
union of all targets or, if several boxes were predicted, with the object that is paired with its box, if there is one.
Points on ignored pixels are left out. Runs no model and reads no predicted masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.oracle_swaps import ground_truth_objects, match_boxes
from sam4mllm.evaluation.scores import markdown, percent
from sam4mllm.geometry.prompts import is_on_mask
from sam4mllm.prediction.record import Prediction

BINS = 10


@dataclass(frozen=True, slots=True)
class PointLabel:
    """An answer about one point: P(yes), 0..1, and whether the point is on the object."""

    yes: float
    on: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The points with P(yes) in one interval.

    Attributes:
        low: start of the interval.
        high: end of the interval; only the last bin includes it.
        count: number of points.
        yes: mean P(yes); nan without points.
        on: share of the points on the object; nan without points.
    """

    low: float
    high: float
    count: int
    yes: float
    on: float

    @property
    def accuracy(self) -> float:
        """The share of correct answers, taking the likelier of yes and no as the answer; nan without points."""
        return self.on if self.low >= 0.5 else 1 - self.on


@dataclass(frozen=True, slots=True)
class Reliability:
    """The curve, as an even number of bins of equal width, so that no bin mixes yes and no."""

    bins: tuple[Bin, ...]

    @property
    def count(self) -> int:
        """The number of points."""
        return sum(interval.count for interval in self.bins)

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: the mean of |accuracy - confidence| over bins, weighted by points.

        Guo et al., "On calibration of modern neural networks" (ICML 2017), equation 3, with the confidence of the
        likelier answer. Yes and no have bins of their own, since PQPP has a threshold for each. nan without points.
        """
        if not self.count:
            return math.nan
        terms = (interval.count * abs(interval.on - interval.yes) for interval in self.bins if interval.count)
        return math.fsum(terms) / self.count

    def format_table(self) -> str:
        """A Markdown table, and a line with the expected calibration error."""
        lines = [["P(yes)", "points", "mean P(yes) %", "on the object %", "right %"], ["---", *["---:"] * 4]]
        for interval in self.bins:
            shares = map(percent, (interval.yes, interval.on, interval.accuracy))
            lines.append([f"{interval.low:.1f} to {interval.high:.1f}", str(interval.count), *shares])
        return markdown(lines) + f"\nexpected calibration error: {percent(self.error)} % of {self.count} points\n"


def reliability(answers: Sequence[PointLabel], bins: int = BINS) -> Reliability:
    """The curve of the answers; a P(yes) between two bins belongs to the higher bin.

    Args:
        answers: any number of answers, or none.
        bins: number of bins, even.
    """
    groups: list[list[PointLabel]] = [[] for _ in range(bins)]
    for answer in answers:
        groups[min(int(answer.yes * bins), bins - 1)].append(answer)
    return Reliability(tuple(_make_bin(index, bins, group) for index, group in enumerate(groups)))


def point_labels(samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> list[PointLabel]:
    """The answer about each point, with the ground truth, in the order of the samples.

    Args:
        samples: samples with ground truth.
        predictions: predictions by sample id.
    """
    return [answer for sample in samples for answer in _answers(sample, predictions[sample.id])]


def _answers(sample: Sample, prediction: Prediction) -> list[PointLabel]:
    if not prediction.point_answers:
        return []
    objects, union = ground_truth_objects(sample), sample.ground_truth.mask
    ignored = sample.ignore.mask if sample.ignore else None
    partners = match_boxes([prompt.extent for prompt in prediction.prompts], [target.box for target in objects])
    several = len(prediction.prompts) > 1
    masks = {predicted: objects[true].mask.mask for true, predicted in partners.items()} if several else {}
    return [
        PointLabel(point.yes, is_on_mask(masks.get(point.object, union), point.x, point.y))
        for point in prediction.point_answers
        if ignored is None or not is_on_mask(ignored, point.x, point.y)
    ]


def _make_bin(index: int, bins: int, group: Sequence[PointLabel]) -> Bin:
    count = len(group)
    yes = math.fsum(answer.yes for answer in group) / count if count else math.nan
    on = sum(answer.on for answer in group) / count if count else math.nan
    return Bin(index / bins, (index + 1) / bins, count, yes, on)
