"""Charts of a page as inline SVG: histograms, curves over 0..1, and stacked bars.

The classes compute positions; the templates draw them in the page's colours, with a tooltip on each mark. matplotlib's
SVG has neither tooltips nor a dark mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

_HISTOGRAM_WIDTH, _HISTOGRAM_TOP, _HISTOGRAM_FLOOR = 300, 16, 112  # the template's viewBox is 300 x 130
_CURVES_LEFT, _CURVES_RIGHT, _CURVES_TOP, _CURVES_FLOOR = 30, 292, 10, 196  # of 300 x 230
_STACK_HEIGHT = 10
_MAX_BAR_WIDTH = 60
_MAX_BARS = 24


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle in the units of its SVG, given by its top left corner, with a tooltip."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """The number of values in one range, and the name of the range."""

    label: str
    count: int


def count_in_parts(values: Sequence[float], parts: int = 20) -> list[HistogramBar]:
    """Counts values in equal parts of 0..1; the last part includes 1."""
    counts = Counter(min(int(value * parts), parts - 1) for value in values)
    return [HistogramBar(f"{index / parts:.2f} to {(index + 1) / parts:.2f}", counts[index]) for index in range(parts)]


def count_numbers(values: Sequence[int]) -> list[HistogramBar]:
    """Counts the values 0, 1, 2 and so on; the last of at most 24 bars includes all larger values."""
    largest = max(values, default=0)
    last = min(largest, _MAX_BARS - 1)
    counts = Counter(min(value, last) for value in values)
    labels = [str(number) for number in range(last)] + [f"{last} or more" if largest > last else str(last)]
    return [HistogramBar(label, counts[number]) for number, label in enumerate(labels)]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars from left to right.

    Attributes:
        title: caption of the chart.
        bars: one or more.
        ends: labels below the first and the last bar.
    """

    template: ClassVar[str] = "histogram.html"
    title: str
    bars: Sequence[HistogramBar]
    ends: tuple[str, str]

    @property
    def description(self) -> str:
        """The chart in words."""
        return f"{self.title}: {'; '.join(f'{bar.label}: {bar.count}' for bar in self.bars if bar.count) or 'nothing'}"

    @property
    def largest(self) -> int:
        """The count of the highest bar."""
        return max(bar.count for bar in self.bars)

    @property
    def largest_x(self) -> float:
        """The centre of the highest bar, at least 20 from both edges so that its count fits."""
        rect = self.rects[[bar.count for bar in self.bars].index(self.largest)]
        return min(max(round(rect.x + rect.width / 2, 1), 20), _HISTOGRAM_WIDTH - 20)

    @property
    def rects(self) -> list[Rect]:
        """One rectangle per bar; a count above 0 is at least one unit high."""
        step, room = _HISTOGRAM_WIDTH / len(self.bars), _HISTOGRAM_FLOOR - _HISTOGRAM_TOP
        width = round(max(min(step, _MAX_BAR_WIDTH) - 2, 1), 1)
        heights = [round(max(bar.count / max(self.largest, 1) * room, float(bar.count > 0)), 1) for bar in self.bars]
        labels = [f"{bar.label}: {bar.count:,}" for bar in self.bars]
        return [
            Rect(round(step * index + 1, 1), round(_HISTOGRAM_FLOOR - height, 1), width, height, label)
            for index, (height, label) in enumerate(zip(heights, labels, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a curve, both coordinates in 0..1, with a tooltip and a radius."""

    x: float
    y: float
    label: str
    radius: float = 2.5


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through its points, from left to right."""

    name: str
    points: Sequence[CurvePoint]


@dataclass(frozen=True, slots=True)
class CurveChart:
    """One or two curves over the unit square.

    Attributes:
        title: caption of the chart.
        curves: at least one of them with a point; named in a legend if there are two.
        axes: labels of x and y.
        diagonal: whether to draw the line y = x.
    """

    template: ClassVar[str] = "curves.html"
    title: str
    curves: Sequence[Curve]
    axes: tuple[str, str]
    diagonal: bool = False

    @property
    def description(self) -> str:
        """The chart in words."""
        curves = (f"{curve.name}: {', '.join(point.label for point in curve.points)}" for curve in self.curves)
        return f"{self.title}: {'; '.join(curves)}"

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """A point of the unit square in the units of the SVG; y grows upwards in, and downwards out."""
        return (
            round(_CURVES_LEFT + x * (_CURVES_RIGHT - _CURVES_LEFT), 1),
            round(_CURVES_FLOOR - y * (_CURVES_FLOOR - _CURVES_TOP), 1),
        )


@dataclass(frozen=True, slots=True)
class StackedBars:
    """One bar per row, all on the same scale; negative parts go to the left of zero.

    Attributes:
        title: caption of the chart.
        kinds: names of the parts, at most 9 (one colour each); the legend omits those that are 0 in every row.
        rows: one value per kind, by the row's name; shares of 1, shown in points of 100.
    """

    template: ClassVar[str] = "stacked_bars.html"
    title: str
    kinds: Sequence[str]
    rows: Mapping[str, Sequence[float]]

    @property
    def used_kinds(self) -> list[int]:
        """Indices of the kinds that are not 0 everywhere."""
        return [index for index in range(len(self.kinds)) if any(values[index] for values in self.rows.values())]

    @property
    def range(self) -> tuple[float, float]:
        """Left and right end of the longest bars, in points, on both sides of zero."""
        losses = [sum(value for value in values if value > 0) for values in self.rows.values()]
        gains = [sum(value for value in values if value < 0) for values in self.rows.values()]
        return round(100 * min([0.0, *gains]), 4), round(100 * max([1e-6, *losses]), 4)

    def describe(self, name: str) -> str:
        """One row in words."""
        values = zip(self.kinds, self.rows[name], strict=True)
        return f"{name}: {'; '.join(f'{kind} {100 * value:+.2f}' for kind, value in values if value) or 'nothing'}"

    def rects(self, name: str) -> list[tuple[int, Rect]]:
        """The parts of one row that are not 0, end to end, each with the index of its kind."""
        low, high = 0.0, 0.0
        rects = []
        for index, value in enumerate(self.rows[name]):
            if not value:
                continue
            start = high if value > 0 else low + value
            low, high = min(low, start), max(high, start + value)
            label = f"{name}, {self.kinds[index]}: {100 * value:+.2f}"
            rects.append((index, Rect(round(100 * start, 4), 0, round(100 * abs(value), 4), _STACK_HEIGHT, label)))
        return rects
