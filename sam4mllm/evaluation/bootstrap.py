"""Metrics as ratios of sums, with bootstrap intervals over images.

Every metric of the protocols is such a ratio: cIoU is the sum of intersections over the sum of unions, a mean is the
sum of values over their count, and an accuracy is hits over expressions.

The bootstrap (Efron and Tibshirani, 1993, percentile method) resamples images instead of expressions, because the
expressions of one image are not independent.

    >>> ratio = Ratio(np.array([30, 0]), np.array([60, 40]))
    >>> ratio.value, intervals({"cIoU": ratio}, np.array([0, 1]), Bootstrap())
    (0.3, {"cIoU": (0.0, 0.5)})
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Num

from sam4mllm.errors import UserError

Interval = tuple[float, float]
_BLOCK_SIZE = 2**22  # image indices per block of draws: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """One sum divided by another, with one term per expression in both.

    Attributes:
        over: terms of the numerator, one per expression.
        under: terms of the denominator, one per expression.
        epsilon: added to the denominator, as some evaluators do.
    """

    over: Num[np.ndarray, " n"]
    under: Num[np.ndarray, " n"]
    epsilon: float = 0.0

    @property
    def value(self) -> float:
        """The ratio, independent of the order of the terms; nan if the denominator is 0."""
        under = _sum(self.under) + self.epsilon
        return _sum(self.over) / under if under else math.nan


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Settings of a bootstrap: the number of draws and the seed.

    Raises:
        UserError: if ``draws`` is below 1, or ``seed`` is negative.
    """

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.seed < 0:
            raise UserError(
                f"a bootstrap needs at least 1 draw and a seed of at least 0, got {self.draws} and {self.seed}"
            )


def group_indices(names: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """The group index of each name: equal names share an index, from 0 in order of first appearance."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def intervals(
    ratios: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, Interval]:
    """The 95% interval of each ratio; terms of one group are resampled together.

    Args:
        ratios: metrics of the same n expressions, by name.
        groups: the index of each expression's image (see `group_indices`).
        bootstrap: number of draws, and seed.

    Returns:
        The lower and upper end of each interval; nan if the ratio is undefined in every draw, or there is only one
        group.
    """
    values = _resample(list(ratios.values()), groups, bootstrap)
    return {name: _percentile_interval(column) for name, column in zip(ratios, values.T, strict=True)}


def differences(
    first: Mapping[str, Ratio], second: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, tuple[float, float, float]]:
    """First minus second for each ratio, with the 95% interval of a paired bootstrap.

    Args:
        first: metrics by name.
        second: metrics with the same names, of the same expressions.
        groups: as in `intervals`; both sides use the same resampled images.
        bootstrap: number of draws, and seed.

    Returns:
        The difference and the ends of its interval, by name.
    """
    draws, other_draws = (_resample(list(ratios.values()), groups, bootstrap) for ratios in (first, second))
    columns = zip(first, (draws - other_draws).T, strict=True)
    return {name: (first[name].value - second[name].value, *_percentile_interval(column)) for name, column in columns}


def _sum(terms: Num[np.ndarray, " n"]) -> float:
    """The sum, independent of the order: exact for integers, rounded once for floats."""
    return int(terms.sum()) if terms.dtype.kind in "iub" else math.fsum(terms.tolist())


def _resample(
    ratios: Sequence[Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> Float64[np.ndarray, "draws ratios"]:
    """The value of each ratio in each draw; a draw picks as many groups as there are, with replacement."""
    terms = [term for ratio in ratios for term in (ratio.over, ratio.under)]
    n_groups = int(groups.max()) + 1
    if n_groups < 2:
        return np.full((bootstrap.draws, len(ratios)), np.nan)
    sums = np.stack([np.bincount(groups, weights=term, minlength=n_groups) for term in terms], axis=1)
    totals = np.concatenate([weights @ sums for weights in _weights(n_groups, bootstrap)])
    under = totals[:, 1::2] + np.array([ratio.epsilon for ratio in ratios])
    values: Float64[np.ndarray, "draws ratios"] = np.full_like(under, np.nan)
    np.divide(totals[:, ::2], under, out=values, where=under != 0)
    return values


def _weights(n_groups: int, bootstrap: Bootstrap) -> Iterator[Float64[np.ndarray, "draws groups"]]:
    """Yields how often each draw picks each group, one row per draw, in blocks of draws."""
    rng = np.random.default_rng(bootstrap.seed)
    step = max(1, _BLOCK_SIZE // n_groups)
    for start in range(0, bootstrap.draws, step):
        rows = min(step, bootstrap.draws - start)
        picks = rng.integers(n_groups, size=(rows, n_groups)) + n_groups * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def _percentile_interval(values: Float64[np.ndarray, " draws"]) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # if all values are nan, the result is nan too
        low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
