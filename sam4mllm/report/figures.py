"""The figures and tables of a report, from runs to HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sam4mllm.evaluation.attribution import ErrorBreakdown, means, points, signed, touched
from sam4mllm.evaluation.oracle_swaps import STAGES
from sam4mllm.evaluation.pairing import BOX
from sam4mllm.evaluation.scores import Scores, percent
from sam4mllm.report.bars import stacked
from sam4mllm.report.charts import histogram, shares
from sam4mllm.report.curves import Dot, Line, curves
from sam4mllm.report.html import Table
from sam4mllm.report.run import Run

_LEVELS = [step / 20 for step in range(21)]


def numbers(first: Run, second: Run | None, apart: Mapping[str, tuple[float, float, float]]) -> Table:
    """The numbers of one run or two, a line each, with intervals and differences; shares in percent."""
    head = ["", first.name, "95% interval"]
    head += [second.name, "first less second", "95% interval"] if second else []
    rows = []
    for name, value in _values(first.scores).items():
        row = [name, percent(value), _range(first.scores.intervals[name])]
        if second:
            difference, *ends = apart[name]
            row += [percent(_values(second.scores)[name]), _signed(difference), _range((ends[0], ends[1]))]
        rows.append(row)
    for name in ("unreadable", "failed", "undeserved"):
        row = [f"{name} (expressions)", str(getattr(first.scores, name)), ""]
        rows.append(row + ([str(getattr(second.scores, name)), "", ""] if second else []))
    return Table(head, rows)


def strata(what: str, scores: Mapping[str, Scores]) -> Table:
    """The numbers of each label, in percent, with their signature; ``what`` stands above the labels."""
    names = list(_values(next(iter(scores.values()))))
    rows = [
        [label, str(one.n), *map(percent, _values(one).values()), str(one.signature)] for label, one in scores.items()
    ]
    return Table([what, "n", *names, "signature"], rows)


def lost(title: str, groups: Mapping[str, Sequence[ErrorBreakdown]]) -> tuple[str, Table]:
    """What each stage lost, as stacked bars and in figures."""
    found = {name: means(entries) for name, entries in groups.items()}
    bars = stacked(title, STAGES, {name: [float(one[stage]) for stage in STAGES] for name, one in found.items()})
    rows = [
        [stage, *(f"{signed(one[stage])} ({touched(groups[name], stage)})" for name, one in found.items())]
        for stage in STAGES
        if any(one.lost.get(stage) for entries in groups.values() for one in entries)
    ]
    rows.append(["all of the loss", *(points(math.fsum(one.values())) for one in found.values())])
    return bars, Table(["lost to (expressions)", *groups], rows)


def figures(runs: Sequence[Run]) -> list[str]:
    """Precision by threshold, reliability where points were asked about, and how many have which IoU."""
    asked = [run for run in runs if run.points.count]
    words = ", ".join(f"{percent(run.points.error)} % of {run.points.count:,} points" for run in asked)
    found = [
        curves(
            "Pr@K of expressions with a target: the share with an IoU of K or more",
            [Line(run.name, _precision(run)) for run in runs],
            ("K", "Pr@K"),
        ),
        curves(
            f"Points: P(yes) against the share on the object; expected calibration error {words}",
            [Line(run.name, _reliable(run)) for run in asked],
            ("P(yes)", "on the object"),
            diagonal=True,
        ),
        *(
            histogram(f"IoU of each expression, {run.name}", shares(list(map(float, run.ious.values()))), ("0", "1"))
            for run in runs
        ),
    ]
    return [one for one in found if one]


def _precision(run: Run) -> list[Dot]:
    there = run.tally.pixels.truth > 0
    pixels = run.tally.pixels
    ious = pixels.intersection[there] / pixels.union[there]
    if not ious.size:
        return []
    reached = [(level, float(np.mean(ious >= level))) for level in _LEVELS]
    return [Dot(level, share, f"Pr@{level:g} {percent(share)}", 1.5) for level, share in reached]


def _reliable(run: Run) -> list[Dot]:
    most = max(one.count for one in run.points.bins)
    return [
        Dot(
            one.yes,
            one.on,
            f"P(yes) {one.low:.1f} to {one.high:.1f}: {percent(one.on)} % of {one.count} on the object",
            2 + 5 * math.sqrt(one.count / most),
        )
        for one in run.points.bins
        if one.count
    ]


def _values(scores: Scores) -> dict[str, float]:
    return {**scores.metrics, BOX: scores.box_accuracy}


def _range(ends: tuple[float, float]) -> str:
    return "-" if math.isnan(ends[0]) else f"{percent(ends[0])} to {percent(ends[1])}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}" if value else "0"
