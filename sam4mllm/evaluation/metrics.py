"""The metrics of each protocol, computed from pixel counts, in profiles named after the evaluator that defines them.

Use `lavt` for RefCOCO, RefCOCO+ and RefCOCOg (RES), `rela` for gRefCOCO (GRES), and `lisa` for ReasonSeg. `gsva` and
`bool-ignore` follow two other papers and serve only to compare with their numbers. All results are 0..1, not percent,
and nan if a metric is undefined on the samples. Counts are exact integers, so the order of the samples and the size of
the images do not change a digit.

cIoU is the sum of intersections over the sum of unions (also called oIoU, "overall"). mIoU and gIoU are both the mean
IoU of the expressions, under the name that the protocol's papers use. This gIoU is not the generalised box IoU.

    >>> rela([PixelCounts(intersection=30, union=60, ground_truth=40, prediction=50)])["cIoU"]
    0.5
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Num

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio
from sam4mllm.evaluation.counts import CountColumns, GroundTruth, PixelCounts, count_all, count_ignored, count_summed
from sam4mllm.geometry.rle import Encoded, Rle

VERSION = 1
"""Version of the metric definitions; raised whenever the same masks give a different number under the same name."""

Terms = tuple[Num[np.ndarray, " n"] | Bool[np.ndarray, " n"], Num[np.ndarray, " n"] | Bool[np.ndarray, " n"]]


@dataclass(frozen=True, slots=True)
class Metric:
    """A ratio of two sums: the terms of each expression, and an epsilon for the denominator."""

    terms: Callable[[CountColumns], Terms]
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The conventions of one evaluator: how it counts pixels, and which metrics it computes.

    Attributes:
        metrics: metrics by name, in printing order.
        count: counts the pixels of ground truths and predicted masks.
        warning: how the profile differs from the protocol's official code; empty for the official profiles.
        empty: the IoU of two empty masks, 1 or 0.
    """

    metrics: Mapping[str, Metric]
    count: Callable[[Sequence[GroundTruth], Sequence[Encoded]], CountColumns]
    warning: str = ""
    empty: int = 1

    def count_masks(self, sample: Sample, masks: Sequence[Rle]) -> list[PixelCounts]:
        """The pixel counts of several masks of one sample, in their order."""
        ground_truths = [GroundTruth.from_sample(sample)] * len(masks)
        return self.count(ground_truths, [(mask.size, mask.counts) for mask in masks]).rows

    def overlap(self, counts: PixelCounts) -> tuple[int, int]:
        """The IoU of one expression as intersection and union in pixels, without a protocol's epsilon.

        The union is never 0: two empty masks give (`empty`, 1).
        """
        if counts.union:
            return counts.intersection, counts.union
        return 0 if counts.ground_truth else self.empty, 1

    def iou(self, counts: PixelCounts) -> float:
        """The IoU of one expression, 0..1, without a protocol's epsilon."""
        intersection, union = self.overlap(counts)
        return intersection / union

    def ratios(self, pixels: CountColumns) -> dict[str, Ratio]:
        """The metrics as ratios of sums, by name."""
        terms = {name: metric.terms(pixels) for name, metric in self.metrics.items()}
        return {name: Ratio(over * 1, under * 1, self.metrics[name].epsilon) for name, (over, under) in terms.items()}

    def __call__(self, counts: Sequence[PixelCounts]) -> dict[str, float]:
        """The metrics by name, 0..1.

        Raises:
            UserError: if there are no expressions.
        """
        if not counts:
            raise UserError("no samples to score")
        return {name: ratio.value for name, ratio in self.ratios(CountColumns.of(counts)).items()}


def _overall(pixels: CountColumns) -> Terms:
    return pixels.intersection, pixels.union


def _mean(pixels: CountColumns, empty: float, epsilon: float = 0.0) -> Terms:
    """The IoU of each expression: ``empty`` for two empty masks; ``epsilon`` is added to the union."""
    ious = pixels.intersection / (np.maximum(pixels.union, 1) + epsilon)
    return np.where((pixels.union == 0) & (pixels.ground_truth == 0), empty, ious), np.ones_like(pixels.union)


def _precision(pixels: CountColumns, min_iou: float, targeted: bool) -> Terms:
    """Whether each IoU is at least ``min_iou``; only over expressions with a target if ``targeted``."""
    included = pixels.ground_truth > 0 if targeted else np.ones(len(pixels), dtype=bool)
    return included & (_mean(pixels, 0.0)[0] >= min_iou), included


def _no_target_accuracy(pixels: CountColumns) -> Terms:
    absent = pixels.ground_truth == 0
    return absent & (pixels.prediction == 0), absent


def _target_accuracy(pixels: CountColumns) -> Terms:
    targeted = pixels.ground_truth > 0
    return targeted & (pixels.prediction > 0), targeted


def _precisions(levels: Sequence[float], targeted: bool) -> dict[str, Metric]:
    return {f"Pr@{level}": Metric(partial(_precision, min_iou=level, targeted=targeted)) for level in levels}


lavt = Profile(
    {
        "cIoU": Metric(_overall),
        "mIoU": Metric(partial(_mean, empty=0.0)),
        **_precisions((0.5, 0.6, 0.7, 0.8, 0.9), targeted=False),
    },
    count_all,
    empty=0,
)
"""cIoU, mIoU and Pr@0.5 ... Pr@0.9 as in LAVT's evaluation.

mIoU and Pr@K weigh all expressions equally; Pr@K is the share of expressions with IoU >= K. An IoU of 0 / 0 is 0.
Source: `test.py` of LAVT (Yang et al., CVPR 2022).
"""

_ACCURACIES = {"N_acc": Metric(_no_target_accuracy), "T_acc": Metric(_target_accuracy)}

rela = Profile(
    {
        "gIoU": Metric(partial(_mean, empty=1.0)),
        "cIoU": Metric(_overall),
        **_ACCURACIES,
        **_precisions((0.7, 0.8, 0.9), targeted=True),
    },
    count_all,
)
"""gIoU, cIoU, N_acc, T_acc, Pr@0.7, Pr@0.8 and Pr@0.9 as in ReLA's evaluator.

An expression without a target has an empty ground truth, and an empty prediction means "none". If there is no target,
an empty prediction has IoU 1 and adds nothing to the sums; any other prediction has IoU 0, and its area is added to the
unions. If there is a target, an empty prediction has IoU 0. N_acc is the accuracy on expressions without a target: an
empty prediction is correct. T_acc is the accuracy on expressions with a target: a prediction that is not empty is
correct. Pr@K (IoU >= K) covers only expressions with a target.
Source: `refer_evaluation.py` of ReLA (Liu et al., GRES, CVPR 2023).
"""

lisa = Profile(
    {"gIoU": Metric(partial(_mean, empty=1.0, epsilon=1e-5)), "cIoU": Metric(_overall, epsilon=1e-10)}, count_all
)
"""gIoU and cIoU as in LISA's validation, without the ignored pixels.

The IoU of an expression is I / (U + 1e-5), and 1 if the union is empty; cIoU is the sum of I over the sum of
U + 1e-10. Source: `train_ds.py` (`validate`) and `utils/utils.py` (`intersectionAndUnionGPU`) of LISA (Lai et al.,
CVPR 2024). LISA's running sums have 32 bits, so the numbers that it prints may differ in the last digits.
"""

gsva = Profile(
    {"gIoU": Metric(partial(_mean, empty=1.0, epsilon=1e-8)), "cIoU": Metric(_overall, epsilon=1e-10), **_ACCURACIES},
    count_summed,
    "gsva adds up the ground-truth masks of an expression instead of taking their union: pixels in two masks count as "
    "wrong, so overlapping targets score lower than under rela, even for a perfect mask; it cannot reproduce scores of "
    "teacher-forced answers. Use it only to compare with numbers of this kind; rela is the reference",
)
"""gIoU, cIoU, N_acc and T_acc as in GSVA's evaluation, on ground-truth masks that are added up and not clipped.

Sources: `solver.py` (`eval_gres`) of GSVA (Xia et al., CVPR 2024); the sums come from LISA's loader.
GSVA's loader at commit a1af9b2 casts the sums to bool, which gives the same numbers as rela: check which version a
published number came from.
"""

bool_ignore = replace(
    lisa,
    count=count_ignored,
    warning="bool-ignore counts the pixels that ReasonSeg labels as ignored (255) as part of the object: a mask "
    "without these pixels scores lower than under lisa, a mask that covers them may score higher. Use it only to "
    "compare with numbers of this kind; lisa is the reference",
)
"""gIoU and cIoU as in evaluations that cast ReasonSeg's label mask to bool (`data/dataset.py` of GSVA)."""

PROFILES: Mapping[str, Profile] = {"lavt": lavt, "rela": rela, "lisa": lisa, "gsva": gsva, "bool-ignore": bool_ignore}


def profile_for(samples: Iterable[Sample]) -> str:
    """The profile that the field uses for these samples.

    It is ``lisa`` for ReasonSeg, ``rela`` if an expression has several targets or none, and otherwise ``lavt``.
    """
    sources, target_counts = set(), set()
    for sample in samples:
        sources.add(sample.source)
        target_counts.add(len(sample.masks))
    if sources == {"reasonseg"}:
        return "lisa"
    return "lavt" if target_counts <= {1} else "rela"


def profile_named(name: str) -> Profile:
    """The profile with this name.

    Raises:
        UserError: if the name is unknown; lists the choices.
    """
    if name not in PROFILES:
        raise UserError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
