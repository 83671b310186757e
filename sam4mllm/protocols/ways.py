"""The prompting methods of the synthetic benchmark, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Method:
    """A prompting method with its adapter and options.

    Attributes:
        says: description of the method.
        prompter: name of the prompter.
        adapter: the embedded adapter, ``ppg`` or ``pqpp``; None for the base model.
        options: options of the prompter.
    """

    says: str
    prompter: str
    adapter: str | None
    options: Mapping[str, Value]


def _way(says: str, prompter: str, adapter: str | None = None, **options: Value) -> Method:
    return Method(says, prompter, adapter, options)


WAYS: Mapping[str, Method] = MappingProxyType(
    {
        "zero-shot": _way("the box of the base model", "box"),
        "verified": _way("the box of the base model, and interior points that it verified", "verified"),
        "box": _way("the box of the PQPP adapter", "box", "pqpp"),
        "ppg": _way("PPG with its adapter", "ppg", "ppg"),
        "pqpp": _way(
            "PQPP with its adapter and the paper's thresholds",
            "pqpp",
            "pqpp",
            layout="grid",
            points=25,
            sure_yes=0.75,
            sure_no=0.9,
        ),
        "calibrated": _way("PQPP with its adapter and calibrated options", "pqpp", "pqpp"),
        "adaptive": _way("adaptive PQPP with the PQPP adapter", "adaptive", "pqpp"),
        "oracle-box": _way("ground-truth boxes", "oracle", positive=0, negative=0),
        "oracle": _way("ground-truth boxes with three random positive and three negative points", "oracle"),
    }
)
