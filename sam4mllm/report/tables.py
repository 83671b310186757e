"""Scores of runs as tables and charts: metrics, subsets, lost IoU, precision and reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sam4mllm.evaluation.attribution import ErrorBreakdown, count_changed, format_signed, means, points
from sam4mllm.evaluation.oracle_swaps import STAGES
from sam4mllm.evaluation.pairing import BOX
from sam4mllm.evaluation.scores import Scores, format_interval, percent
from sam4mllm.report.figures import Curve, CurveChart, CurvePoint, Histogram, StackedBars, count_in_parts
from sam4mllm.report.html import HtmlTable, PagePart
from sam4mllm.report.run import Run

_THRESHOLDS = [step / 20 for step in range(21)]


def tabulate_scores(run: Run, baseline: Run | None, differences: Mapping[str, tuple[float, float, float]]) -> HtmlTable:
    """One row per metric, in percent, with intervals.

    Args:
        run: fills the first columns.
        baseline: fills the next column, if given.
        differences: ``run`` minus ``baseline`` with its 95% interval, by the metric's name.
    """
    head = ["metric", run.name, "95% interval"]
    head += [baseline.name, "difference", "95% interval"] if baseline else []
    rows = []
    for metric, value in _metrics(run.scores).items():
        row = [metric, percent(value), format_interval(run.scores.intervals[metric])]
        if baseline:
            difference, low, high = differences[metric]
            row += [percent(_metrics(baseline.scores)[metric])]
            row += [_format_difference(difference), format_interval((low, high))]
        rows.append(row)
    for count in ("unreadable", "failed", "undeserved"):
        row = [f"{count} (expressions)", str(getattr(run.scores, count)), ""]
        rows.append(row + ([str(getattr(baseline.scores, count)), "", ""] if baseline else []))
    return HtmlTable("Scores in percent", head, rows)


def tabulate_subsets(caption: str, label: str, scores: Mapping[str, Scores]) -> HtmlTable:
    """One row per subset, in percent.

    Args:
        caption: of the table.
        label: what the subsets differ in.
        scores: by the subset's label, at least one.
    """
    metrics = list(_metrics(next(iter(scores.values()))))
    rows = [[name, str(part.n), *map(percent, _metrics(part).values())] for name, part in scores.items()]
    return HtmlTable(caption, [label, "expressions", *metrics], rows)


def tabulate_losses(title: str, groups: Mapping[str, Sequence[ErrorBreakdown]]) -> tuple[StackedBars, HtmlTable]:
    """The mean IoU that each stage lost, in points, as stacked bars and as a table.

    Args:
        title: of both.
        groups: one entry or more, by the name of the row in the chart and of the column in the table.
    """
    losses = {name: means(entries) for name, entries in groups.items()}
    rows = []
    for stage in STAGES:
        counts = [count_changed(entries, stage) for entries in groups.values()]
        shares = [format_signed(loss[stage]) for loss in losses.values()]
        if any(counts):
            rows.append([stage, *(f"{share} ({count})" for share, count in zip(shares, counts, strict=True))])
    rows.append(["total", *(points(math.fsum(loss.values())) for loss in losses.values())])
    bars = {name: [loss[stage] for stage in STAGES] for name, loss in losses.items()}
    return StackedBars(title, STAGES, bars), HtmlTable(title, ["stage (expressions)", *groups], rows)


def draw_charts(runs: Sequence[Run]) -> list[PagePart]:
    """Precision by threshold, reliability if the model labelled points, and a histogram of IoUs for each run."""
    charts: list[PagePart] = []
    precisions = [Curve(run.name, _precision_curve(run)) for run in runs]
    if any(curve.points for curve in precisions):
        title = "Pr@K of expressions with a target: the share with an IoU of K or more"
        charts.append(CurveChart(title, precisions, ("K", "Pr@K")))
    with_points = [run for run in runs if run.points.count]
    if with_points:
        errors = ", ".join(f"{percent(run.points.error)} % of {run.points.count:,} points" for run in with_points)
        title = f"Points: P(yes) against the share on the object; expected calibration error {errors}"
        curves = [Curve(run.name, _reliability_curve(run)) for run in with_points]
        charts.append(CurveChart(title, curves, ("P(yes)", "on the object"), diagonal=True))
    for run in runs:
        ious = count_in_parts(list(run.ious.values()))
        charts.append(Histogram(f"IoU of each expression, {run.name}", ious, ("0", "1")))
    return charts


def _precision_curve(run: Run) -> list[CurvePoint]:
    pixels = run.tally.pixels
    has_target = pixels.ground_truth > 0
    ious = pixels.intersection[has_target] / pixels.union[has_target]
    if not ious.size:
        return []
    shares = [(threshold, float(np.mean(ious >= threshold))) for threshold in _THRESHOLDS]
    return [CurvePoint(threshold, share, f"Pr@{threshold:g} {percent(share)}", 1.5) for threshold, share in shares]


def _reliability_curve(run: Run) -> list[CurvePoint]:
    """One point per bin that is not empty; its area grows with the number of answers."""
    largest = max(part.count for part in run.points.bins)
    return [
        CurvePoint(
            part.yes,
            part.on,
            f"P(yes) {part.low:.1f} to {part.high:.1f}: {percent(part.on)} % of {part.count} on the object",
            2 + 5 * math.sqrt(part.count / largest),
        )
        for part in run.points.bins
        if part.count
    ]


def _metrics(scores: Scores) -> dict[str, float]:
    return {**scores.metrics, BOX: scores.box_accuracy}


def _format_difference(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}" if value else "0"
