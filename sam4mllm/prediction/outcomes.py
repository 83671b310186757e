"""Counts how predictions ended, for the last line of a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MASK, NONE, UNREADABLE, FAILED = "with a mask", "without a target", "unreadable", "failed"


def outcome(has_prompts: bool, readable: bool, failed: bool) -> str:
    """``with a mask``, ``without a target`` (the model found no object), ``unreadable`` or ``failed``."""
    if failed:
        return FAILED
    if has_prompts:
        return MASK
    return NONE if readable else UNREADABLE


def format_outcomes(outcomes: Iterable[str]) -> str:
    """One line, such as ``6 predictions: 4 with a mask, 1 without a target, 1 unreadable, 0 failed``."""
    counts = Counter(outcomes)
    parts = ", ".join(f"{counts[name]:,} {name}" for name in (MASK, NONE, UNREADABLE, FAILED))
    total = counts.total()
    return f"{total:,} prediction{'' if total == 1 else 's'}: {parts}"
