"""Counts pixels, from which all metrics are computed, in run-length-encoded masks without decoding them.

    >>> count(ground_truth, prediction)
    PixelCounts(intersection=30, union=60, ground_truth=40, prediction=50)

Counts are exact integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Int64

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.overlaps import shared
from sam4mllm.geometry.rle import Encoded, Rle, exclusive_union, intersection, union


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The ground truth of one expression: a mask per target object, and the pixels to ignore."""

    masks: tuple[Rle, ...]
    height: int
    width: int
    ignore: Rle | None = None

    @classmethod
    def from_sample(cls, sample: Sample) -> GroundTruth:
        """The ground truth of a sample."""
        return cls(sample.masks, sample.height, sample.width, sample.ignore)

    @property
    def union(self) -> Rle:
        """The union of the masks; an empty mask if there are none."""
        return union(self.masks, self.height, self.width)


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixel counts of one expression's ground truth and predicted mask, without the ignored pixels."""

    intersection: int
    union: int
    ground_truth: int
    prediction: int

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1; nan if both masks are empty, since protocols differ on that case."""
        return self.intersection / self.union if self.union else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class CountColumns:
    """Pixel counts of n expressions, one array per count."""

    intersection: Int64[np.ndarray, " n"]
    union: Int64[np.ndarray, " n"]
    ground_truth: Int64[np.ndarray, " n"]
    prediction: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, counts: Sequence[PixelCounts]) -> CountColumns:
        """Converts a list of counts to columns."""
        return cls(*(np.array([getattr(row, field.name) for row in counts], dtype=np.int64) for field in fields(cls)))

    @property
    def rows(self) -> list[PixelCounts]:
        """The counts of each expression, in order."""
        columns = (self.intersection, self.union, self.ground_truth, self.prediction)
        return [PixelCounts(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def __getitem__(self, rows: Int64[np.ndarray, " rows"]) -> CountColumns:
        return CountColumns(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.union)

    @classmethod
    def empty(cls, n: int) -> CountColumns:
        """Zeros for n expressions."""
        return cls(*(np.zeros(n, dtype=np.int64) for _ in fields(cls)))

    def put(self, rows: Int64[np.ndarray, " rows"], counted: CountColumns) -> None:
        """Sets the counts of these rows."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(counted, field.name)


def count(ground_truth: Rle, prediction: Rle, ignore: Rle | None = None) -> PixelCounts:
    """Counts the pixels of one expression.

    Args:
        ground_truth: union of the ground-truth masks.
        prediction: predicted mask of the same size.
        ignore: pixels excluded from both masks, as LISA excludes the pixels labelled 255.

    Raises:
        UserError: if the masks differ in size.
    """
    return count_all(
        [GroundTruth((ground_truth,), *ground_truth.size, ignore)], [(prediction.size, prediction.counts)]
    ).rows[0]


def count_all(ground_truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """Counts the pixels of each expression; a pixel in several ground-truth masks counts once.

    Args:
        ground_truths: ignored pixels are excluded from both masks, as LISA excludes the pixels labelled 255.
        predictions: one mask per ground truth, of the same size; the run lengths are validated here.

    Raises:
        UserError: if a mask differs in size, or its run lengths are damaged.
    """
    for ground_truth, (size, _) in zip(ground_truths, predictions, strict=True):
        if size != (ground_truth.height, ground_truth.width):
            raise UserError(
                f"the mask has size (h, w) = {size}, but its image has {(ground_truth.height, ground_truth.width)}"
            )
    unions = [ground_truth.union for ground_truth in ground_truths]
    overlap, true, predicted = shared(
        [mask.counts for mask in unions],
        [counts for _, counts in predictions],
        [ground_truth.height * ground_truth.width for ground_truth in ground_truths],
    )
    for row, ignore in [
        (row, ground_truth.ignore) for row, ground_truth in enumerate(ground_truths) if ground_truth.ignore is not None
    ]:
        target, prediction = unions[row], Rle(*predictions[row])
        overlap[row] -= intersection(target, prediction, ignore)
        true[row] -= intersection(target, ignore)
        predicted[row] -= intersection(prediction, ignore)
    return CountColumns(overlap, true + predicted - overlap, true, predicted)


def count_summed(ground_truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """Like `count_all`, but adds the ground-truth masks up: pixels in two masks get the value 2 and are not foreground.

    GSVA's histogram over the classes 0 and 1 drops such pixels from the intersection and from the ground truth's area.
    """
    without_overlaps = [
        replace(ground_truth, masks=(exclusive_union(ground_truth.masks, ground_truth.height, ground_truth.width),))
        if len(ground_truth.masks) > 1
        else ground_truth
        for ground_truth in ground_truths
    ]
    areas = np.array([ground_truth.union.area for ground_truth in ground_truths], dtype=np.int64)
    return replace(count_all(without_overlaps, predictions), ground_truth=areas)


def count_ignored(ground_truths: Sequence[GroundTruth], predictions: Sequence[Encoded]) -> CountColumns:
    """Like `count_all`, but ignored pixels belong to the ground truth, as if the label 255 were cast to bool."""
    with_ignored = [
        replace(ground_truth, masks=(*ground_truth.masks, ground_truth.ignore), ignore=None)
        if ground_truth.ignore is not None
        else ground_truth
        for ground_truth in ground_truths
    ]
    return count_all(with_ignored, predictions)
