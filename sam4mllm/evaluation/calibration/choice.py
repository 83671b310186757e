"""The search space of a calibration, the metric to maximise, and the result."""

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
from sam4mllm.prompters.points import Layout, Thresholds

PAPER_THRESHOLDS, DEFAULT = "the paper's thresholds", "uncalibrated"
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The settings to choose from, and the metric to maximise.

    Attributes:
        layouts: point layouts, with their numbers of points.
        profile: a key of `metrics.PROFILES`.
        metric: one of the profile's metrics; higher is better.
        thresholds: thresholds for P(yes) and P(no); all pairs are tried.
        bootstrap: settings of the gain's interval.

    Raises:
        UserError: if there are no layouts, or the profile or its metric is unknown.
    """

    layouts: tuple[Layout, ...]
    profile: str = "lavt"
    metric: str = "cIoU"
    thresholds: tuple[float, ...] = THRESHOLDS
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        metrics = profile_named(self.profile).metrics
        if self.metric not in metrics:
            raise UserError(f"profile {self.profile} has no metric {self.metric!r}: choose from {', '.join(metrics)}")
        if not self.layouts:
            raise UserError("no layouts to choose from: give at least one")

    @property
    def settings(self) -> list[Setting]:
        """All settings to try, including the paper's thresholds."""
        pairs = dict.fromkeys([*product(self.thresholds, self.thresholds), (PAPER.thresholds.yes, PAPER.thresholds.no)])
        return [Setting(layout, Thresholds(*pair)) for layout in self.layouts for pair in pairs]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The chosen setting, and its gain over the default thresholds.

    Attributes:
        chosen: the setting that was written into the adapter's card.
        metric: name of the maximised metric.
        validation: the metric of the chosen setting and of the settings it is compared with, by name.
        test: the same on the test split; empty without a test split.
        gains: on the test split, the chosen setting's metric minus that of each other setting, with the ends of the
            95% interval.
        counts: numbers of settings, samples and segmented masks.
        warnings: caveats that a reader of the result needs, one line each.
    """

    chosen: Setting
    metric: str
    validation: Mapping[str, float]
    test: Mapping[str, float]
    gains: Mapping[str, tuple[float, float, float]]
    counts: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields; metrics are 0..1."""
        gains = {name: [or_none(number) for number in gain] for name, gain in self.gains.items()}
        return {**asdict(self), "chosen": self.chosen.options, "gains": gains, "sam4mllm": __version__}

    def format_table(self) -> str:
        """A Markdown table, in percent, with the gains in points, and a line with the chosen options."""
        lines = [[f"PQPP, {self.metric}", "validation", "test", "chosen less this, on test", "95% interval"]]
        lines.append(["---", *["---:"] * 4])
        for name in ("calibrated", PAPER_THRESHOLDS, DEFAULT):
            values = [percent(numbers.get(name, math.nan)) for numbers in (self.validation, self.test)]
            gain = [f"{100 * number:+.2f}" for number in self.gains.get(name, ())]
            lines.append([name, *values, *([gain[0], f"{gain[1]} to {gain[2]}"] if gain else ["-", "-"])])
        options = ", ".join(f"{name} {value}" for name, value in self.chosen.options.items())
        return f"{markdown(lines)}\nchosen from {self.counts['settings']} settings: {options}\n"
