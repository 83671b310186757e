"""The prompting methods of the synthetic benchmark, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Method:
    """A prompting method with its adapter and options.

    Attributes:
        description: description of the method.
        prompter: name of the prompter.
        adapter: the embedded adapter, ``ppg`` or ``pqpp``; None for the base model.
        options: options of the prompter.
    """

    description: str
    prompter: str
    adapter: str | None = None
    options: Mapping[str, Value] = field(default_factory=dict)


METHODS: Mapping[str, Method] = {
    "zero-shot": Method("the box of the base model", "box"),
    "verified": Method("the box of the base model, and interior points that it verified", "verified"),
    "box": Method("the box of the PQPP adapter", "box", "pqpp"),
    "ppg": Method("PPG with its adapter", "ppg", "ppg"),
    "pqpp": Method(
        "PQPP with its adapter and the paper's thresholds",
        "pqpp",
        "pqpp",
        {"layout": "grid", "points": 25, "sure_yes": 0.75, "sure_no": 0.9},
    ),
    "calibrated": Method("PQPP with its adapter and calibrated options", "pqpp", "pqpp"),
    "adaptive": Method("adaptive PQPP with the PQPP adapter", "adaptive", "pqpp"),
    "oracle-box": Method("ground-truth boxes", "oracle", options={"positive": 0, "negative": 0}),
    "oracle": Method("ground-truth boxes with three random positive and three negative points", "oracle"),
}
