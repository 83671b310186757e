"""How right a model is about points, by how sure it says it is: the reliability curve. Knows nothing of masks drawn.

Only points that were asked about one by one have a probability (`Prediction.asked`). What counts as right is what the
question meant: whether the point is on the object whose box was asked about, where several were found, and on anything
that the phrase means otherwise. Points on ignored pixels are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.oracle_swaps import matched, objects_of
from sam4mllm.evaluation.scores import markdown, percent
from sam4mllm.geometry.prompts import on_mask
from sam4mllm.prediction.record import Prediction

BINS = 10


@dataclass(frozen=True, slots=True)
class Answered:
    """One point: how likely "yes" was, 0..1, and whether it is on the object."""

    yes: float
    on: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The points whose P(yes) lies in one part of 0..1.

    Attributes:
        low: where it begins.
        high: where it ends; the last holds its end.
        count: how many points.
        yes: their mean P(yes); nan for none.
        on: the share that is on the object; nan for none.
    """

    low: float
    high: float
    count: int
    yes: float
    on: float

    @property
    def accuracy(self) -> float:
        """The share of right answers, where the likelier of yes and no is the answer; nan for none."""
        return self.on if self.low >= 0.5 else 1 - self.on


@dataclass(frozen=True, slots=True)
class Reliability:
    """The curve: equal parts of P(yes), an even number of them, so that each holds answers of one kind."""

    bins: tuple[Bin, ...]

    @property
    def count(self) -> int:
        """How many points there are."""
        return sum(one.count for one in self.bins)

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: the mean of | accuracy - confidence | of the bins, weighed by points.

        Guo et al., "On calibration of modern neural networks" (ICML 2017), equation 3, with the confidence of the
        likelier answer; yes and no have bins of their own, since PQPP has a threshold for each. nan for no points.
        """
        if not self.count:
            return math.nan
        return math.fsum(one.count * abs(one.on - one.yes) for one in self.bins if one.count) / self.count

    def text(self) -> str:
        """A Markdown table."""
        lines = [["P(yes)", "points", "mean P(yes) %", "on the object %", "right %"], ["---", *["---:"] * 4]]
        for one in self.bins:
            shares = map(percent, (one.yes, one.on, one.accuracy))
            lines.append([f"{one.low:.1f} to {one.high:.1f}", str(one.count), *shares])
        return markdown(lines) + f"\nexpected calibration error: {percent(self.error)} % of {self.count} points\n"


def reliability(answers: Sequence[Answered], bins: int = BINS) -> Reliability:
    """The curve of answers; a P(yes) on the border of two bins belongs to the higher.

    Args:
        answers: any number, also none.
        bins: an even number.
    """
    parts: list[list[Answered]] = [[] for _ in range(bins)]
    for one in answers:
        parts[min(int(one.yes * bins), bins - 1)].append(one)
    return Reliability(tuple(_bin(number, bins, part) for number, part in enumerate(parts)))


def answered(samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> list[Answered]:
    """Every point that was asked about, with the truth, sample by sample.

    Args:
        samples: with the truth.
        predictions: by id.
    """
    return [one for sample in samples for one in _answers(sample, predictions[sample.id])]


def _answers(sample: Sample, prediction: Prediction) -> list[Answered]:
    if not prediction.asked:
        return []
    objects, whole = objects_of(sample), sample.truth.mask
    ignored = sample.ignore.mask if sample.ignore else None
    partners = matched([prompt.box for prompt in prediction.prompts], [one.box for one in objects])
    several = len(prediction.prompts) > 1
    masks = {said: objects[true].mask.mask for true, said in partners.items()} if several else {}
    return [
        Answered(asked.yes, on_mask(masks.get(asked.object, whole), asked.x, asked.y))
        for asked in prediction.asked
        if ignored is None or not on_mask(ignored, asked.x, asked.y)
    ]


def _bin(number: int, bins: int, part: Sequence[Answered]) -> Bin:
    many = len(part)
    yes = math.fsum(one.yes for one in part) / many if many else math.nan
    on = sum(one.on for one in part) / many if many else math.nan
    return Bin(number / bins, (number + 1) / bins, many, yes, on)
