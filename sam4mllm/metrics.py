"""The field's numbers as pure functions of pixel counts, under the names of the code that defines them.

`lavt` for RefCOCO, RefCOCO+ and RefCOCOg (RES), `rela` for gRefCOCO (GRES), `lisa` for ReasonSeg. All results are
shares, 0..1, not percent; nan where a number has nothing to stand on. Counts are exact integers, so neither the order
of the samples nor the size of a picture changes a digit. Knows nothing of files, models and phrases.

cIoU is the sum of intersections over the sum of unions (elsewhere oIoU, "overall"); mIoU and gIoU are both the mean of
the IoU of each expression, under the name that the protocol's papers print. This gIoU is not the generalised box IoU.

    >>> rela([Counts(intersection=30, union=60, truth=40, prediction=50)])["cIoU"]
    0.5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sam4mllm.errors import UserError
from sam4mllm.rle import Rle, intersection


@dataclass(frozen=True, slots=True)
class Counts:
    """What every number is made of: pixels of one expression's true and predicted mask, outside the ignored ones."""

    intersection: int
    union: int
    truth: int
    prediction: int

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1; nan where both masks are empty: each protocol has its own word for that."""
        return self.intersection / self.union if self.union else math.nan


def count(truth: Rle, prediction: Rle, ignore: Rle | None = None) -> Counts:
    """The pixel counts of one expression, without decoding a mask.

    Args:
        truth: the union of the true masks.
        prediction: of the same size.
        ignore: pixels dropped from both, as LISA drops those labelled 255.

    Raises:
        UserError: for masks of several sizes.
    """
    both, true, predicted = intersection(truth, prediction), truth.area, prediction.area
    if ignore is not None:
        both -= intersection(truth, prediction, ignore)
        true -= intersection(truth, ignore)
        predicted -= intersection(prediction, ignore)
    return Counts(both, true + predicted - both, true, predicted)


def lavt(counts: Sequence[Counts]) -> dict[str, float]:
    """cIoU, mIoU and Pr@0.5 ... Pr@0.9 as LAVT's evaluation counts them.

    Every expression weighs the same in mIoU and Pr@K, the share of those with IoU >= K; an IoU of 0 / 0 is 0.
    Source: `test.py` of LAVT (Yang et al., CVPR 2022).

    Raises:
        UserError: for no counts.
    """
    ious = [0.0 if each.union == 0 else each.iou for each in _some(counts)]
    return {"cIoU": _overall(counts), "mIoU": _mean(ious), **_precision(ious, (0.5, 0.6, 0.7, 0.8, 0.9))}


def rela(counts: Sequence[Counts]) -> dict[str, float]:
    """gIoU, cIoU, N_acc, T_acc, Pr@0.7, Pr@0.8 and Pr@0.9 as ReLA's evaluator counts them.

    An expression without a target has an empty truth, and an empty prediction says "none". Predicted none where there
    is none: IoU 1, and nothing is added to the sums; predicted something: IoU 0, and its area is added to the unions.
    Predicted none where there is a target: IoU 0. N_acc is the share of the expressions without a target answered by
    none, T_acc of those with one answered by something, and Pr@K (IoU >= K) is over those with a target alone.
    Source: `refer_evaluation.py` of ReLA (Liu et al., GRES, CVPR 2023).

    Raises:
        UserError: for no counts.
    """
    targeted = [each for each in _some(counts) if each.truth]
    absent = [each for each in counts if not each.truth]
    ious = [each.iou for each in targeted]
    return {
        "gIoU": _mean([*ious, *(float(not each.prediction) for each in absent)]),
        "cIoU": _overall(counts),
        "N_acc": _mean([float(not each.prediction) for each in absent]),
        "T_acc": _mean([float(each.prediction > 0) for each in targeted]),
        **_precision(ious, (0.7, 0.8, 0.9)),
    }


def lisa(counts: Sequence[Counts]) -> dict[str, float]:
    """gIoU and cIoU as LISA's validation counts them, on counts without the ignored pixels.

    The IoU of an expression is I / (U + 1e-5), and 1 where the union is empty; cIoU is the sum of I over the sum of
    U + 1e-10. Source: `train_ds.py` (`validate`) and `utils/utils.py` (`intersectionAndUnionGPU`) of LISA (Lai et al.,
    CVPR 2024). Its running sums are of 32 bits, so its own printed numbers may differ in the last digits.

    Raises:
        UserError: for no counts.
    """
    ious = [each.intersection / (each.union + 1e-5) if each.union else 1.0 for each in _some(counts)]
    overlap, whole = sum(each.intersection for each in counts), sum(each.union for each in counts)
    return {"gIoU": _mean(ious), "cIoU": overlap / (whole + 1e-10)}


PROFILES: Mapping[str, Callable[[Sequence[Counts]], dict[str, float]]] = MappingProxyType(
    {"lavt": lavt, "rela": rela, "lisa": lisa}
)


def _some(counts: Sequence[Counts]) -> Sequence[Counts]:
    if not counts:
        raise UserError("there is nothing to score: no samples")
    return counts


def _overall(counts: Sequence[Counts]) -> float:
    whole = sum(each.union for each in counts)
    return sum(each.intersection for each in counts) / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _precision(ious: Sequence[float], thresholds: Sequence[float]) -> dict[str, float]:
    return {f"Pr@{threshold}": _mean([float(iou >= threshold) for iou in ious]) for threshold in thresholds}
