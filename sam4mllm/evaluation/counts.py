"""Counts the pixels that every metric is made of, on run lengths, without decoding a mask.

    >>> count(ground_truth, prediction)
    PixelCounts(intersection=30, union=60, truth=40, prediction=50)

Counts are exact integers. Knows nothing of metrics, files and models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Int64

from sam4mllm.errors import UserError
from sam4mllm.geometry.overlaps import shared
from sam4mllm.geometry.rle import Encoded, Rle, covered_once, intersection, union


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """One mask for each target object of an expression, and the ignored pixels, which count neither way."""

    masks: tuple[Rle, ...]
    height: int
    width: int
    ignore: Rle | None = None

    @property
    def whole(self) -> Rle:
        """The union of the masks; empty if there are none."""
        return union(self.masks, self.height, self.width)


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixels of one expression's true and predicted mask, without the ignored ones."""

    intersection: int
    union: int
    truth: int
    prediction: int

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1; nan if both masks are empty, which each protocol defines its own way."""
        return self.intersection / self.union if self.union else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class CountColumns:
    """The counts of n expressions, in columns."""

    intersection: Int64[np.ndarray, " n"]
    union: Int64[np.ndarray, " n"]
    truth: Int64[np.ndarray, " n"]
    prediction: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, counts: Sequence[PixelCounts]) -> CountColumns:
        """The counts of expressions, in columns."""
        return cls(*(np.array([getattr(row, field.name) for row in counts], dtype=np.int64) for field in fields(cls)))

    @property
    def rows(self) -> list[PixelCounts]:
        """The counts of each expression."""
        columns = (self.intersection, self.union, self.truth, self.prediction)
        return [PixelCounts(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __getitem__(self, rows: Int64[np.ndarray, " some"]) -> CountColumns:
        return CountColumns(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.union)

    @classmethod
    def empty(cls, n: int) -> CountColumns:
        """Zeros for n expressions."""
        return cls(*(np.zeros(n, dtype=np.int64) for _ in fields(cls)))

    def put(self, rows: Int64[np.ndarray, " some"], counted: CountColumns) -> None:
        """Sets the counts of these rows."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(counted, field.name)


def count(truth: Rle, prediction: Rle, ignore: Rle | None = None) -> PixelCounts:
    """Counts the pixels of one expression.

    Args:
        truth: the union of the true masks.
        prediction: of the same size.
        ignore: pixels dropped from both, as LISA drops those labelled 255.

    Raises:
        UserError: if the masks differ in size.
    """
    return count_all([GroundTruth((truth,), *truth.size, ignore)], [(prediction.size, prediction.counts)]).rows[0]


def count_all(truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """Counts the pixels of each expression; a pixel of several true masks counts once.

    Args:
        truths: ignored pixels are dropped from ground truth and prediction, as LISA drops those labelled 255.
        predictions: one for each ground truth, of the same size; their counts are not validated yet.

    Raises:
        UserError: if a mask differs in size, or its counts are damaged.
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


def count_summed(truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """As `count_all`, but true masks are summed, not united: where two overlap, the value 2 is not foreground.

    A histogram over the classes 0 and 1 drops such pixels from every intersection and from the true area.
    """
    once = [
        replace(truth, masks=(covered_once(truth.masks, truth.height, truth.width),)) if len(truth.masks) > 1 else truth
        for truth in truths
    ]
    areas = np.array([truth.whole.area for truth in truths], dtype=np.int64)
    return replace(count_all(once, predictions), truth=areas)


def count_ignored(truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """As `count_all`, but ignored pixels are part of the ground truth, as after a cast of the label 255 to bool."""
    cast = [
        replace(truth, masks=(*truth.masks, truth.ignore), ignore=None) if truth.ignore is not None else truth
        for truth in truths
    ]
    return count_all(cast, predictions)
