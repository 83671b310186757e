"""The field's numbers as pure functions of pixel counts, under the names of the code that defines them.

`lavt` for RefCOCO, RefCOCO+ and RefCOCOg (RES), `rela` for gRefCOCO (GRES), `lisa` for ReasonSeg; `gsva` and
`bool-ignore` count as some peers did, to compare with their numbers alone. All results are shares, 0..1, not percent;
nan if a number is undefined on the samples. Counts are exact integers, so neither the order of the samples nor the
size of an image changes a digit. Knows nothing of files, models and phrases.

cIoU is the sum of intersections over the sum of unions (elsewhere oIoU, "overall"); mIoU and gIoU are both the mean of
the IoU of each expression, under the name that the protocol's papers print. This gIoU is not the generalised box IoU.

    >>> rela([PixelCounts(intersection=30, union=60, truth=40, prediction=50)])["cIoU"]
    0.5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int64, Num

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio
from sam4mllm.geometry.overlaps import shared
from sam4mllm.geometry.rle import Encoded, Rle, covered_once, intersection, union

VERSION = 1
"""Of the numbers: another one where the same masks would give another digit under the same name."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one expression: a mask for each object, and pixels that count neither way."""

    masks: tuple[Rle, ...]
    height: int
    width: int
    ignore: Rle | None = None

    @property
    def whole(self) -> Rle:
        """The union of the masks; empty where there are none."""
        return union(self.masks, self.height, self.width)


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """What every number is made of: pixels of one expression's true and predicted mask, outside the ignored ones."""

    intersection: int
    union: int
    truth: int
    prediction: int

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1; nan where both masks are empty: each protocol has its own word for that."""
        return self.intersection / self.union if self.union else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class CountColumns:
    """The counts of many expressions, in columns."""

    intersection: Int64[np.ndarray, " n"]
    union: Int64[np.ndarray, " n"]
    truth: Int64[np.ndarray, " n"]
    prediction: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, counts: Sequence[PixelCounts]) -> CountColumns:
        """The same in columns."""
        return cls(*(np.array([getattr(one, each.name) for one in counts], dtype=np.int64) for each in fields(cls)))

    @property
    def rows(self) -> list[PixelCounts]:
        """The same, one by one."""
        columns = (self.intersection, self.union, self.truth, self.prediction)
        return [PixelCounts(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __getitem__(self, rows: Int64[np.ndarray, " some"]) -> CountColumns:
        return CountColumns(*(getattr(self, each.name)[rows] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.union)

    @classmethod
    def empty(cls, n: int) -> CountColumns:
        """Nothing counted yet."""
        return cls(*(np.zeros(n, dtype=np.int64) for _ in fields(cls)))

    def put(self, rows: Int64[np.ndarray, " some"], counted: CountColumns) -> None:
        """Fill some rows."""
        for each in fields(self):
            getattr(self, each.name)[rows] = getattr(counted, each.name)


Terms = tuple[Num[np.ndarray, " n"] | Bool[np.ndarray, " n"], Num[np.ndarray, " n"] | Bool[np.ndarray, " n"]]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number as one sum over another: what each expression adds to both, and what is added to the lower sum."""

    terms: Callable[[CountColumns], Terms]
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Whose conventions: how pixels are counted, and which numbers are made of them.

    Attributes:
        metrics: by name, in the order in which they are printed.
        count: from truths and predicted masks to pixels.
        warning: how this differs from the protocol's own code, for a profile that only serves to compare.
        empty: the IoU, 1 or 0, where nothing is true and nothing predicted.
    """

    metrics: Mapping[str, Metric]
    count: Callable[[Sequence[Truth], Sequence[Encoded]], CountColumns]
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
        """The numbers as sums over sums, by name."""
        terms = {name: metric.terms(pixels) for name, metric in self.metrics.items()}
        return {name: Ratio(over * 1, under * 1, self.metrics[name].epsilon) for name, (over, under) in terms.items()}

    def __call__(self, counts: Sequence[PixelCounts]) -> dict[str, float]:
        """The numbers by name, shares of 1.

        Raises:
            UserError: for no expressions.
        """
        if not counts:
            raise UserError("there is nothing to score: no samples")
        return {name: ratio.value for name, ratio in self.ratios(CountColumns.of(counts)).items()}


def count(truth: Rle, prediction: Rle, ignore: Rle | None = None) -> PixelCounts:
    """The pixel counts of one expression, without decoding a mask.

    Args:
        truth: the union of the true masks.
        prediction: of the same size.
        ignore: pixels dropped from both, as LISA drops those labelled 255.

    Raises:
        UserError: for masks of several sizes.
    """
    return count_all([Truth((truth,), *truth.size, ignore)], [(prediction.size, prediction.counts)]).rows[0]


def count_all(truths: Sequence[Truth], predictions: Sequence[Encoded]) -> CountColumns:
    """The pixel counts of each expression, without decoding a mask; a pixel that several true masks hold counts once.

    Args:
        truths: ignored pixels are dropped from truth and prediction, as LISA drops those labelled 255.
        predictions: one for each truth, of the same size; their counts may be any text.

    Raises:
        UserError: for masks of several sizes, and counts that no mask has.
    """
    for truth, (size, _) in zip(truths, predictions, strict=True):
        if size != (truth.height, truth.width):
            raise UserError(f"a mask of (h, w) = {size} on a picture of {(truth.height, truth.width)}")
    wholes = [truth.whole for truth in truths]
    both, true, predicted = shared(
        [whole.counts for whole in wholes],
        [counts for _, counts in predictions],
        [truth.height * truth.width for truth in truths],
    )
    for row, ignore in [(row, truth.ignore) for row, truth in enumerate(truths) if truth.ignore is not None]:
        whole, prediction = wholes[row], Rle(*predictions[row])
        both[row] -= intersection(whole, prediction, ignore)
        true[row] -= intersection(whole, ignore)
        predicted[row] -= intersection(prediction, ignore)
    return CountColumns(both, true + predicted - both, true, predicted)


def count_summed(truths: Sequence[Truth], predictions: Sequence[Encoded]) -> CountColumns:
    """As `count_all`, but true masks are added up and not united: where two overlap, the value 2 is not foreground.

    What a histogram over the classes 0 and 1 makes of such pixels: part of no intersection and of no true area.
    """
    once = [
        replace(truth, masks=(covered_once(truth.masks, truth.height, truth.width),)) if len(truth.masks) > 1 else truth
        for truth in truths
    ]
    there = np.array([truth.whole.area for truth in truths], dtype=np.int64)
    return replace(count_all(once, predictions), truth=there)


def count_ignored(truths: Sequence[Truth], predictions: Sequence[Encoded]) -> CountColumns:
    """As `count_all`, but ignored pixels are part of the truth: what a cast of the label 255 to a bool makes them."""
    cast = [
        replace(truth, masks=(*truth.masks, truth.ignore), ignore=None) if truth.ignore is not None else truth
        for truth in truths
    ]
    return count_all(cast, predictions)


def _overall(pixels: CountColumns) -> Terms:
    return pixels.intersection, pixels.union


def _mean(pixels: CountColumns, empty: float, epsilon: float = 0.0) -> Terms:
    """The IoU of each expression; ``empty`` where nothing is true and predicted, ``epsilon`` is added to the union."""
    ious = pixels.intersection / (np.maximum(pixels.union, 1) + epsilon)
    return np.where((pixels.union == 0) & (pixels.truth == 0), empty, ious), np.ones_like(pixels.union)


def _precision(pixels: CountColumns, least: float, targeted: bool) -> Terms:
    """Whether each IoU is ``least`` or more; of expressions with a target alone, if asked for."""
    there = pixels.truth > 0 if targeted else np.ones(len(pixels), dtype=bool)
    return there & (_mean(pixels, 0.0)[0] >= least), there


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
        UserError: listing the choices.
    """
    if name not in PROFILES:
        raise UserError(f"there is no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
