"""Metrics as one sum over another, with bootstrap intervals over images.

Every metric of the protocols is such a ratio: cIoU is intersections over unions, a mean is values over ones, an
accuracy is hits over cases. Knows nothing of masks.

The bootstrap (Efron and Tibshirani, 1993, percentile method) draws images, not expressions, since the expressions of
one image are not independent.

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
_AT_ONCE = 2**22  # images drawn at once: 32 MB of numbers


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """One sum over another, with one term for each expression.

    Attributes:
        over: the terms of the numerator.
        under: the terms of the denominator.
        epsilon: added to the denominator, if the protocol's code does so.
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
    """The number of draws and the seed.

    Raises:
        UserError: if there are no draws, or the seed is negative.
    """

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.seed < 0:
            raise UserError(
                f"a bootstrap has 1 or more draws and a seed of 0 or more, got {self.draws} and {self.seed}"
            )


def numbered(names: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """Numbers the groups of equal names, from 0 on in order of appearance."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def intervals(
    ratios: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, Interval]:
    """The 95% interval of each ratio, over groups of terms that are drawn together.

    Args:
        ratios: of the same n expressions.
        groups: the index of each expression's image, as `numbered` gives it.
        bootstrap: number of draws, and seed.

    Returns:
        The ends of each interval; nan if no draw defines the ratio, or if there is one group only.
    """
    values = _draw(list(ratios.values()), groups, bootstrap)
    return {name: _middle(column) for name, column in zip(ratios, values.T, strict=True)}


def differences(
    first: Mapping[str, Ratio], second: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, tuple[float, float, float]]:
    """First minus second for each ratio, with the 95% interval of a paired bootstrap.

    Args:
        first: by name.
        second: the same names, of the same expressions.
        groups: as in `intervals`; both sides use the same drawn images.
        bootstrap: number of draws, and seed.

    Returns:
        The difference and the interval's ends, by name.
    """
    draws, other_draws = (_draw(list(ratios.values()), groups, bootstrap) for ratios in (first, second))
    apart = zip(first, (draws - other_draws).T, strict=True)
    return {name: (first[name].value - second[name].value, *_middle(column)) for name, column in apart}


def _sum(terms: Num[np.ndarray, " n"]) -> float:
    """The sum, independent of the order: exact for integers, rounded once for floats."""
    return int(terms.sum()) if terms.dtype.kind in "iub" else math.fsum(terms.tolist())


def _draw(
    ratios: Sequence[Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> Float64[np.ndarray, "draws ratios"]:
    """The value of each ratio in each draw of as many groups as there are."""
    terms = [part for ratio in ratios for part in (ratio.over, ratio.under)]
    many = int(groups.max()) + 1
    if many < 2:
        return np.full((bootstrap.draws, len(ratios)), np.nan)
    sums = np.stack([np.bincount(groups, weights=part, minlength=many) for part in terms], axis=1)
    totals = np.concatenate([weights @ sums for weights in _weights(many, bootstrap)])
    under = totals[:, 1::2] + np.array([ratio.epsilon for ratio in ratios])
    values: Float64[np.ndarray, "draws ratios"] = np.full_like(under, np.nan)
    np.divide(totals[:, ::2], under, out=values, where=under != 0)
    return values


def _weights(many: int, bootstrap: Bootstrap) -> Iterator[Float64[np.ndarray, "draws groups"]]:
    """How often each group is drawn, one row per draw, in blocks of draws."""
    rng = np.random.default_rng(bootstrap.seed)
    step = max(1, _AT_ONCE // many)
    for start in range(0, bootstrap.draws, step):
        rows = min(step, bootstrap.draws - start)
        places = rng.integers(many, size=(rows, many)) + many * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * many).reshape(rows, many).astype(np.float64)


def _middle(values: Float64[np.ndarray, " draws"]) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all values are nan, and so is the result
        low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
