"""The metrics of the protocols as pure functions of pixel counts, in profiles named after the code that defines them.

`lavt` for RefCOCO, RefCOCO+ and RefCOCOg (RES), `rela` for gRefCOCO (GRES), `lisa` for ReasonSeg; `gsva` and
`bool-ignore` count as two other papers do, only to compare with their numbers. All results are 0..1, not percent;
nan if a number is undefined on the samples. Counts are exact integers, so neither the order of the samples nor the
size of an image changes a digit. Knows nothing of files, models and phrases.

cIoU is the sum of intersections over the sum of unions (elsewhere oIoU, "overall"); mIoU and gIoU are both the mean of
the IoU of each expression, under the name that the papers of the protocol use. This gIoU is not the generalised
box IoU.

    >>> rela([PixelCounts(intersection=30, union=60, truth=40, prediction=50)])["cIoU"]
    0.5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Num

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio
from sam4mllm.evaluation.counts import CountColumns, GroundTruth, PixelCounts, count_all, count_ignored, count_summed
from sam4mllm.geometry.rle import Encoded

VERSION = 1
"""Version of the metrics' definitions; it changes if the same masks give another digit under the same name."""

Terms = tuple[Num[np.ndarray, " n"] | Bool[np.ndarray, " n"], Num[np.ndarray, " n"] | Bool[np.ndarray, " n"]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One sum over another: what each expression adds to both, and an epsilon for the denominator."""

    terms: Callable[[CountColumns], Terms]
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The conventions of one evaluator: how it counts pixels, and which metrics it makes of them.

    Attributes:
        metrics: by name, in the order in which they are printed.
        count: counts pixels of ground truths and predicted masks.
        warning: how this differs from the protocol's own code; empty for a protocol's reference.
        empty: the IoU of two empty masks, 1 or 0.
    """

    metrics: Mapping[str, Metric]
    count: Callable[[Sequence[GroundTruth], Sequence[Encoded]], CountColumns]
    warning: str = ""
    empty: int = 1

    def overlap(self, counts: PixelCounts) -> tuple[int, int]:
        """The IoU of one expression as intersection and union in pixels, without the epsilon that a protocol adds.

        The union is never 0: two empty masks give (`empty`, 1).
        """
        if counts.union:
            return counts.intersection, counts.union
        return 0 if counts.truth else self.empty, 1

    def iou(self, counts: PixelCounts) -> float:
        """The IoU of one expression, 0..1, without the epsilon that a protocol's code may add."""
        intersection, whole = self.overlap(counts)
        return intersection / whole

    def ratios(self, pixels: CountColumns) -> dict[str, Ratio]:
        """The metrics as sums over sums, by name."""
        terms = {name: metric.terms(pixels) for name, metric in self.metrics.items()}
        return {name: Ratio(over * 1, under * 1, self.metrics[name].epsilon) for name, (over, under) in terms.items()}

    def __call__(self, counts: Sequence[PixelCounts]) -> dict[str, float]:
        """The metrics by name, 0..1.

        Raises:
            UserError: if there are no expressions.
        """
        if not counts:
            raise UserError("there is nothing to score: no samples")
        return {name: ratio.value for name, ratio in self.ratios(CountColumns.of(counts)).items()}


def _overall(pixels: CountColumns) -> Terms:
    return pixels.intersection, pixels.union


def _mean(pixels: CountColumns, empty: float, epsilon: float = 0.0) -> Terms:
    """The IoU of each expression; ``empty`` for two empty masks, ``epsilon`` is added to the union."""
    ious = pixels.intersection / (np.maximum(pixels.union, 1) + epsilon)
    return np.where((pixels.union == 0) & (pixels.truth == 0), empty, ious), np.ones_like(pixels.union)


def _precision(pixels: CountColumns, least: float, targeted: bool) -> Terms:
    """Whether each IoU is ``least`` or more; only over expressions with a target if ``targeted``."""
    included = pixels.truth > 0 if targeted else np.ones(len(pixels), dtype=bool)
    return included & (_mean(pixels, 0.0)[0] >= least), included


def _silent(pixels: CountColumns) -> Terms:
    absent = pixels.truth == 0
    return absent & (pixels.prediction == 0), absent


def _spoken(pixels: CountColumns) -> Terms:
    targeted = pixels.truth > 0
    return targeted & (pixels.prediction > 0), targeted


def _at(levels: Sequence[float], targeted: bool) -> dict[str, Metric]:
    return {f"Pr@{level}": Metric(partial(_precision, least=level, targeted=targeted)) for level in levels}


lavt = Profile(
    {
        "cIoU": Metric(_overall),
        "mIoU": Metric(partial(_mean, empty=0.0)),
        **_at((0.5, 0.6, 0.7, 0.8, 0.9), targeted=False),
    },
    count_all,
    empty=0,
)
"""cIoU, mIoU and Pr@0.5 ... Pr@0.9 as LAVT's evaluation counts them.

Every expression weighs the same in mIoU and Pr@K, the share of those with IoU >= K; an IoU of 0 / 0 is 0.
Source: `test.py` of LAVT (Yang et al., CVPR 2022).
"""

_ACCURACIES = {"N_acc": Metric(_silent), "T_acc": Metric(_spoken)}

rela = Profile(
    {
        "gIoU": Metric(partial(_mean, empty=1.0)),
        "cIoU": Metric(_overall),
        **_ACCURACIES,
        **_at((0.7, 0.8, 0.9), targeted=True),
    },
    count_all,
)
"""gIoU, cIoU, N_acc, T_acc, Pr@0.7, Pr@0.8 and Pr@0.9 as ReLA's evaluator counts them.

An expression without a target has an empty truth, and an empty prediction says "none". Predicted none where there is
none: IoU 1, and nothing is added to the sums; predicted something: IoU 0, and its area is added to the unions.
Predicted none where there is a target: IoU 0. N_acc is the share of the expressions without a target answered by none,
T_acc of those with one answered by something, and Pr@K (IoU >= K) is over those with a target alone.
Source: `refer_evaluation.py` of ReLA (Liu et al., GRES, CVPR 2023).
"""

lisa = Profile(
    {"gIoU": Metric(partial(_mean, empty=1.0, epsilon=1e-5)), "cIoU": Metric(_overall, epsilon=1e-10)},
    count_all,
)
"""gIoU and cIoU as LISA's validation counts them, on counts without the ignored pixels.

The IoU of an expression is I / (U + 1e-5), and 1 where the union is empty; cIoU is the sum of I over the sum of
U + 1e-10. Source: `train_ds.py` (`validate`) and `utils/utils.py` (`intersectionAndUnionGPU`) of LISA (Lai et al.,
CVPR 2024). Its running sums are of 32 bits, so its own printed numbers may differ in the last digits.
"""

gsva = Profile(
    {
        "gIoU": Metric(partial(_mean, empty=1.0, epsilon=1e-8)),
        "cIoU": Metric(_overall, epsilon=1e-10),
        **_ACCURACIES,
    },
    count_summed,
    "gsva adds up the true masks of an expression instead of uniting them: pixels that two of them share count as "
    "wrong, so overlapping targets score lower than under rela, even by a perfect mask; numbers of teacher-forced "
    "answers it cannot make. For comparison with numbers counted so only; rela is the reference",
)
"""gIoU, cIoU, N_acc and T_acc as GSVA's evaluation makes them, of true masks that are added up and not clipped.

Sources: `solver.py` (`eval_gres`) of GSVA (Xia et al., CVPR 2024); the sums are those of LISA's loader, which it took
over. The version of GSVA's own loader that was read (commit a1af9b2) casts them to a bool, and then rela's numbers are
met: see which version a number came from.
"""

bool_ignore = replace(
    lisa,
    count=count_ignored,
    warning="bool-ignore takes the pixels that ReasonSeg labels as ignored (255) for a part of the object: a mask that "
    "leaves them out scores lower than under lisa, one that covers them may score higher. For comparison with such "
    "numbers only; lisa is the reference",
)
"""gIoU and cIoU as evaluations count them that cast ReasonSeg's label mask to a bool (`data/dataset.py` of GSVA)."""

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {"lavt": lavt, "rela": rela, "lisa": lisa, "gsva": gsva, "bool-ignore": bool_ignore}
)


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UserError: if the name is unknown; lists the choices.
    """
    if name not in PROFILES:
        raise UserError(f"there is no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
