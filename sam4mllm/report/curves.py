"""Curves over 0..1 as SVG, to stand in a page: drawn in the page's own colours, nothing fetched. Knows nothing of data.

>>> curves("Reliability", [Line("run", [Dot(0.1, 0.2, "0.0 to 0.2: 20 points")])], ("P(yes)", "on the object"))
'<figure class="chart"><figcaption>Reliability</figcaption><svg viewBox="0 0 300 230" ...'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 300, 230
_LEFT, _RIGHT, _TOP, _FLOOR = 30, WIDTH - 8, 10, HEIGHT - 34
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOOKS = 2  # lines of one figure that can be told apart


@dataclass(frozen=True, slots=True)
class Dot:
    """One place of a line, both 0..1: what it says where a pointer rests on it, and its radius."""

    x: float
    y: float
    label: str
    radius: float = 2.5


@dataclass(frozen=True, slots=True)
class Line:
    """A named curve through its dots, from left to right."""

    name: str
    dots: Sequence[Dot]


def curves(title: str, lines: Sequence[Line], words: tuple[str, str], diagonal: bool = False) -> str:
    """A figure of one line or two over the unit square; nothing for lines without a dot.

    Args:
        title: above them.
        lines: each drawn in its own colour, and named below where there are two.
        words: of what lies along x and along y.
        diagonal: whether the line on which both are equal is drawn too.
    """
    if not any(line.dots for line in lines):
        return ""
    told = "; ".join(f"{line.name}: {', '.join(dot.label for dot in line.dots)}" for line in lines)
    names = "".join(f'<li><i class="line{number}"></i>{escape(line.name)}</li>' for number, line in enumerate(lines))
    legend = f'<ul class="legend">{names}</ul>' if len(lines) > 1 else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {told}")}">'
        f"{_axes(words)}{_path([(0.0, 0.0), (1.0, 1.0)], 'even') if diagonal else ''}"
        f"{''.join(_line(line, number % LOOKS) for number, line in enumerate(lines))}</svg>"
        f"{legend}</figure>"
    )


def _axes(words: tuple[str, str]) -> str:
    drawn = [_path([(tick, 0.0), (tick, 1.0)], "axis") + _path([(0.0, tick), (1.0, tick)], "axis") for tick in _TICKS]
    for tick in _TICKS:
        x, y = _at(tick, tick)
        drawn.append(f'<text x="{x:.1f}" y="{_FLOOR + 14}" text-anchor="middle">{tick:g}</text>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return (
        f'{"".join(drawn)}<text x="{(_LEFT + _RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(f'{words[0]} → {words[1]} ↑')}</text>"
    )


def _line(line: Line, look: int) -> str:
    path = _path([(dot.x, dot.y) for dot in line.dots], "curve")
    return f'<g class="line{look}">{path}{"".join(_dot(dot, line.name) for dot in line.dots)}</g>'


def _dot(dot: Dot, name: str) -> str:
    x, y = _at(dot.x, dot.y)
    label = escape(f"{name}, {dot.label}")
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{dot.radius:.1f}"><title>{label}</title></circle>'


def _path(places: Sequence[tuple[float, float]], look: str) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_at(*place) for place in places))
    return f'<polyline class="{look}" points="{drawn}"/>'


def _at(x: float, y: float) -> tuple[float, float]:
    return _LEFT + x * (_RIGHT - _LEFT), _FLOOR - y * (_FLOOR - _TOP)
