"""Among which settings is chosen, by which number, and what was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from sam4mllm import __version__
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.calibration.sweep import PAPER, Setting
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.scores import markdown, or_none, percent
from sam4mllm.prompters.points import Layout, Sure

SAME, DEFAULT = "the paper's thresholds", "uncalibrated"


THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Choice:
    """Among what is chosen, and by which number.

    Attributes:
        layouts: the layouts, with their numbers of points.
        profile: a key of `metrics.PROFILES`.
        metric: one of the profile's numbers.
        thresholds: those of P(yes) and of P(no) that are tried with each other.
        bootstrap: of the interval of the gain.

    Raises:
        UserError: for no layouts, an unknown profile, or a number that it does not have.
    """

    layouts: tuple[Layout, ...]
    profile: str = "lavt"
    metric: str = "cIoU"
    thresholds: tuple[float, ...] = THRESHOLDS
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        metrics = profile_named(self.profile).metrics
        if self.metric not in metrics:
            raise UserError(f"{self.profile} has no number {self.metric!r}: choose from {', '.join(metrics)}")
        if not self.layouts:
            raise UserError("there is nothing to choose from: no layouts")

    @property
    def settings(self) -> list[Setting]:
        """All that are tried; the paper's thresholds are among them."""
        signs = dict.fromkeys([*product(self.thresholds, self.thresholds), (PAPER.sure.yes, PAPER.sure.no)])
        return [Setting(layout, Sure(*sign)) for layout in self.layouts for sign in signs]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was chosen, and what it is worth.

    Attributes:
        chosen: the setting that is now the adapter's.
        metric: the name of the number that it was chosen by.
        validation: the number of the chosen setting and of those that it is compared with, by what they are.
        test: the same on the test split; empty where there is none.
        gains: by how much the chosen setting is better on the test split, with the 95% interval's ends.
        counts: how many settings and samples there were, and how many masks were drawn for them.
        warnings: what has to be known of it, one line each.
    """

    chosen: Setting
    metric: str
    validation: Mapping[str, float]
    test: Mapping[str, float]
    gains: Mapping[str, tuple[float, float, float]]
    counts: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it, shares of 1."""
        gains = {name: [or_none(one) for one in apart] for name, apart in self.gains.items()}
        return {**asdict(self), "chosen": self.chosen.options, "gains": gains, "sam4mllm": __version__}

    def format_table(self) -> str:
        """A Markdown table, in percent, with the gains in points, and a line with the chosen options."""
        lines = [[f"PQPP, {self.metric}", "validation", "test", "chosen less this, on test", "95% interval"]]
        lines.append(["---", *["---:"] * 4])
        for name in ("calibrated", SAME, DEFAULT):
            values = [percent(numbers.get(name, math.nan)) for numbers in (self.validation, self.test)]
            gain = [f"{100 * number:+.2f}" for number in self.gains.get(name, ())]
            lines.append([name, *values, *([gain[0], f"{gain[1]} to {gain[2]}"] if gain else ["-", "-"])])
        options = ", ".join(f"{name} {value}" for name, value in self.chosen.options.items())
        return f"{markdown(lines)}\nchosen from {self.counts['settings']} settings: {options}\n"
