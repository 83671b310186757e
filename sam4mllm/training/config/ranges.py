"""Checks that the numbers of a recipe are in range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from sam4mllm.errors import UserError

RANGES: Mapping[str, Callable[[float], bool]] = {
    "0 or more": lambda value: 0 <= value < inf,
    "0 to 1": lambda value: 0 <= value <= 1,
    "0 to less than 1": lambda value: 0 <= value < 1,
    "0 to less than 2**32": lambda value: 0 <= value < 2**32,
    "above 0": lambda value: 0 < value < inf,
    "above 0, to 1": lambda value: 0 < value <= 1,
    "1 or more": lambda value: 1 <= value < inf,
    "1 or more, or null": lambda value: 1 <= value < inf,
}
"""The ranges by the words that errors describe them with; NaN is in none of them."""


def check_ranges(values: Any, section: str, ranges: Mapping[str, Sequence[str]]) -> None:
    """Check attributes of ``values``; None is not checked.

    Args:
        values: a section of a recipe.
        section: the section's key in the recipe, for errors.
        ranges: attribute names by range, one of `RANGES`.

    Raises:
        UserError: for the first value that is out of range.
    """
    for allowed, names in ranges.items():
        for name in names:
            value = getattr(values, name)
            if value is not None and not RANGES[allowed](value):
                raise UserError(f"{section}.{name} must be {allowed}, got {value}")
