"""The ways in which the embedded models are asked on synthetic scenes, as plain values. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking.

    Attributes:
        says: what it is, in words.
        prompter: the prompting strategy.
        adapter: the embedded adapter, ``ppg`` or ``pqpp``; None for the base alone.
        options: of the strategy.
    """

    says: str
    prompter: str
    adapter: str | None
    options: Mapping[str, Value]


def _way(says: str, prompter: str, adapter: str | None = None, **options: Value) -> Way:
    return Way(says, prompter, adapter, options)


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "zero-shot": _way("the base's box", "box"),
        "verified": _way("the base's box, and interior points that the base itself verified", "verified"),
        "box": _way("the box of PQPP's adapter", "box", "pqpp"),
        "ppg": _way("PPG by its adapter", "ppg", "ppg"),
        "pqpp": _way(
            "PQPP by its adapter, the paper's thresholds",
            "pqpp",
            "pqpp",
            layout="grid",
            points=25,
            sure_yes=0.75,
            sure_no=0.9,
        ),
        "calibrated": _way("PQPP by its adapter, as it was calibrated", "pqpp", "pqpp"),
        "adaptive": _way("adaptive PQPP by that adapter", "adaptive", "pqpp"),
        "oracle-box": _way("the true boxes", "oracle", positive=0, negative=0),
        "oracle": _way("the true boxes with three random clicks on and three off", "oracle"),
    }
)
