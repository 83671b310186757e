"""Histograms as SVG, to stand in a page: drawn in the page's own colours, with nothing fetched. Knows nothing of data.

>>> histogram("IoU", [Bar("0 to 0.5", 3), Bar("0.5 to 1", 9)], ends=("0", "1"))
'<figure class="chart"><figcaption>IoU</figcaption><svg viewBox="0 0 300 130" ...'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 300, 130
_TOP, _FLOOR = 16, HEIGHT - 18  # of the bars; the count of the highest above, the axis's words below
_MOST_BARS = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what it counts, in words, and how many."""

    label: str
    count: int


def shares(values: Sequence[float], bins: int = 20) -> list[Bar]:
    """How many values lie in each of as many equal parts of 0..1; 1 belongs to the last."""
    found = Counter(min(int(value * bins), bins - 1) for value in values)
    return [Bar(f"{index / bins:.2f} to {(index + 1) / bins:.2f}", found[index]) for index in range(bins)]


def numbers(values: Sequence[int]) -> list[Bar]:
    """How many values are 0, 1, 2 …; what is beyond the last bar that fits is counted there."""
    last = min(max(values, default=0), _MOST_BARS - 1)
    found = Counter(min(value, last) for value in values)
    more = " or more" if max(values, default=0) > last else ""
    return [Bar(f"{index}{more if index == last else ''}", found[index]) for index in range(last + 1)]


def histogram(title: str, bars: Sequence[Bar], ends: tuple[str, str]) -> str:
    """A figure of bars from left to right; each says what it counts where a pointer rests on it.

    Args:
        title: above the bars.
        bars: one or more.
        ends: what stands below the first and the last.
    """
    most = max(bar.count for bar in bars)
    step = WIDTH / len(bars)
    drawn = "".join(_bar(bar, step * index, step, bar.count / max(most, 1)) for index, bar in enumerate(bars))
    words = "; ".join(f"{bar.label}: {bar.count}" for bar in bars if bar.count) or "nothing"
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {words}")}">'
        f"{drawn}"
        f'<line class="axis" x1="0" y1="{_FLOOR + 0.5}" x2="{WIDTH}" y2="{_FLOOR + 0.5}"/>'
        f'<text x="0" y="{HEIGHT - 4}">{escape(ends[0])}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">{escape(ends[1])}</text>'
        f"{_peak(bars, step, most)}</svg></figure>"
    )


def _bar(bar: Bar, left: float, step: float, share: float) -> str:
    height = max(share * (_FLOOR - _TOP), 1.0 if bar.count else 0.0)  # a single one among thousands still shows
    return (
        f'<rect x="{left + 1:.1f}" y="{_FLOOR - height:.1f}" width="{max(min(step, 60) - 2, 1):.1f}" '
        f'height="{height:.1f}"><title>{escape(bar.label)}: {bar.count:,}</title></rect>'
    )


def _peak(bars: Sequence[Bar], step: float, most: int) -> str:
    """The count of the highest bar, above it, as far as the edges let it."""
    if not most:
        return ""
    highest = next(index for index, bar in enumerate(bars) if bar.count == most)
    x = min(max(step * highest + min(step, 60) / 2, 20), WIDTH - 20)
    return f'<text x="{x:.1f}" y="{_TOP - 5}" text-anchor="middle">{most:,}</text>'
