"""Counts how predictions ended, for the last line of a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sam4mllm.geometry.prompts import Prompt

MASK, NONE, UNREADABLE, FAILED = "with a mask", "without a target", "unreadable", "failed"


def outcome(prompts: Sequence[Prompt], readable: bool, error: str | None) -> str:
    """``with a mask``, ``without a target`` (the model found no object), ``unreadable`` or ``failed``."""
    if error is not None:
        return FAILED
    return MASK if prompts else NONE if readable else UNREADABLE


def format_outcomes(outcomes: Iterable[str]) -> str:
    """One line, such as ``6 predictions: 4 with a mask, 1 without a target, 1 unreadable, 0 failed``."""
    counts = Counter(outcomes)
    parts = ", ".join(f"{counts[name]:,} {name}" for name in (MASK, NONE, UNREADABLE, FAILED))
    total = counts.total()
    return f"{total:,} prediction{'' if total == 1 else 's'}: {parts}"
