"""Line charts as stand-alone SVG, for the figures of the other benchmarks.

>>> Path("ratio.svg").write_text(curves({"prefix 100": [(9, 2.0), (81, 6.1)]}, ("points", "times as fast"), log=True))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, FLOOR = 56, WIDTH - 190, 16, HEIGHT - 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # distinguishable with colour blindness


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], labels: tuple[str, str], log: bool = False) -> str:
    """An SVG with one line per name, dashed if the name ends in an asterisk.

    Args:
        lines: points (x, y) from left to right, by name.
        labels: names of the x and y axis.
        log: whether y is logarithmic; all y must then be above 0.
    """
    xs, ys = ([place[axis] for line in lines.values() for place in line] for axis in (0, 1))
    scale = math.log10 if log else float
    low, high = min(0.0 if log else min(ys), *map(scale, ys)), max(map(scale, ys))
    ticks = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)] if log else _even(low, high)
    low, high = min(low, scale(ticks[0])), max(high, scale(ticks[-1]))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / (max(xs) - min(xs) or 1)
        up = (scale(y) - low) / (high - low or 1)
        return LEFT + across * (RIGHT - LEFT), FLOOR - up * (FLOOR - TOP)

    elements = [_text((LEFT + RIGHT) / 2, HEIGHT - 8, labels[0]), _text(LEFT, TOP - 4, labels[1], "start")]
    for tick in ticks:
        y = at(min(xs), tick)[1]
        elements += [f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#ddd"/>', _text(LEFT - 6, y + 4, f"{tick:g}", "end")]
    places = sorted(set(xs))
    if len(places) > 8:
        places = [x for x in _even(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    elements += [_text(at(x, ticks[0])[0], FLOOR + 16, f"{x:g}") for x in places]
    for number, (name, line) in enumerate(lines.items()):
        colour, dash = COLOURS[number % len(COLOURS)], ' stroke-dasharray="5 4"' if name.endswith("*") else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*place) for place in line))
        elements.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        y = TOP + 18 * number + 6
        elements.append(f'<path d="M{RIGHT + 12} {y}h22" stroke="{colour}" stroke-width="2"{dash}/>')
        elements.append(_text(RIGHT + 40, y + 4, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -10 {WIDTH} {HEIGHT + 10}" font-family="sans-serif" '
        f'font-size="12"><rect y="-10" width="{WIDTH}" height="{HEIGHT + 10}" fill="#fff"/>{"".join(elements)}</svg>\n'
    )


def _even(low: float, high: float) -> list[float]:
    """About five round numbers that cover a range."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4 or 1))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [step * count for count in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
