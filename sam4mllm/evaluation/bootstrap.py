"""Numbers that are one sum over another, and how far they would move with other pictures: bootstrap intervals.

Every number of the protocols is such a ratio: cIoU is intersections over unions, a mean is values over ones, an
accuracy is hits over cases. Knows nothing of masks.

The bootstrap (Efron and Tibshirani, 1993, percentile method) draws pictures, not expressions: those of one picture are
not independent of each other.

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
_AT_ONCE = 2**22  # pictures drawn at once: 32 MB of numbers


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """One sum over another, of terms by expression.

    Attributes:
        over: the terms above.
        under: the terms below.
        epsilon: added to the sum below, where a protocol's code does so.
    """

    over: Num[np.ndarray, " n"]
    under: Num[np.ndarray, " n"]
    epsilon: float = 0.0

    @property
    def value(self) -> float:
        """The number, whatever the order of the terms; nan where it has nothing to stand on."""
        under = _sum(self.under) + self.epsilon
        return _sum(self.over) / under if under else math.nan


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How often pictures are drawn anew, and from which seed.

    Raises:
        UserError: for no draws, or a negative seed.
    """

    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.seed < 0:
            raise UserError(
                f"a bootstrap has 1 or more draws and a seed of 0 or more, got {self.draws} and {self.seed}"
            )


def numbered(names: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """The number of each one's group: equal names have equal numbers, from 0 on in order of appearance."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def intervals(
    ratios: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, Interval]:
    """The 95% interval of each ratio, over groups of terms that are drawn together.

    Args:
        ratios: of the same n expressions.
        groups: which picture each expression is about, as `numbered` gives it.
        bootstrap: how often, and from which seed.

    Returns:
        The ends of each interval; nan where no draw gives a number, and of one group, which says nothing of others.
    """
    values = _drawn(list(ratios.values()), groups, bootstrap)
    return {name: _middle(column) for name, column in zip(ratios, values.T, strict=True)}


def differences(
    first: Mapping[str, Ratio], second: Mapping[str, Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> dict[str, tuple[float, float, float]]:
    """By how much each ratio is higher in the first than in the second, with the 95% interval of a paired bootstrap.

    Args:
        first: by name.
        second: the same names, of the same expressions.
        groups: as in `intervals`; both sides are of the same drawn pictures.
        bootstrap: how often, and from which seed.

    Returns:
        The difference and the interval's ends, by name.
    """
    one, two = (_drawn(list(ratios.values()), groups, bootstrap) for ratios in (first, second))
    apart = zip(first, (one - two).T, strict=True)
    return {name: (first[name].value - second[name].value, *_middle(column)) for name, column in apart}


def _sum(terms: Num[np.ndarray, " n"]) -> float:
    """Exact, whatever the order: whole numbers as such, others with one rounding at the end."""
    return int(terms.sum()) if terms.dtype.kind in "iub" else math.fsum(terms.tolist())


def _drawn(
    ratios: Sequence[Ratio], groups: Int64[np.ndarray, " n"], bootstrap: Bootstrap
) -> Float64[np.ndarray, "draws ratios"]:
    """Each ratio in each draw of as many groups as there are."""
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
    """How often each group is drawn, a line a draw, some draws at a time."""
    rng = np.random.default_rng(bootstrap.seed)
    step = max(1, _AT_ONCE // many)
    for start in range(0, bootstrap.draws, step):
        rows = min(step, bootstrap.draws - start)
        places = rng.integers(many, size=(rows, many)) + many * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * many).reshape(rows, many).astype(np.float64)


def _middle(values: Float64[np.ndarray, " draws"]) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing but nan, which is then the answer
        low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
