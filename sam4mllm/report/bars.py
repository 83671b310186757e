"""Stacked bars as SVG, to stand in a page: what is below zero goes to the left of it. Knows nothing of data.

>>> stacked("Lost", ["box", "points"], {"all": [0.2, -0.01]})
'<figure class="chart stacked"><figcaption>Lost</figcaption><ul class="legend">...'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

LOOKS = 9  # colours that can be told apart
_HIGH = 10


def stacked(title: str, kinds: Sequence[str], rows: Mapping[str, Sequence[float]]) -> str:
    """A figure with a bar for each row, all to one scale; its parts say what they are where a pointer rests on them.

    Args:
        title: above the bars.
        kinds: what the parts are, at most `LOOKS`; those that are 0 in every row are left out of the legend.
        rows: one part for each kind, by the name of the row; shares of 1, and shown in hundredths.
    """
    low = min([0.0, *(sum(value for value in values if value < 0) for values in rows.values())])
    high = max([1e-9, *(sum(value for value in values if value > 0) for values in rows.values())])
    used = [number for number in range(len(kinds)) if any(values[number] for values in rows.values())]
    names = "".join(f'<li><i class="kind{number}"></i>{escape(kinds[number])}</li>' for number in used)
    bars = "".join(_bar(name, kinds, values, low, high) for name, values in rows.items())
    return (
        f'<figure class="chart stacked"><figcaption>{escape(title)}</figcaption>'
        f'<ul class="legend">{names}</ul>{bars}</figure>'
    )


def _bar(name: str, kinds: Sequence[str], values: Sequence[float], low: float, high: float) -> str:
    ends, parts = {True: 0.0, False: 0.0}, []
    for number, value in enumerate(values):
        if value:
            start = ends[value > 0]
            ends[value > 0] = start + value
            label = escape(f"{name}, {kinds[number]}: {100 * value:+.2f}")
            parts.append(
                f'<rect class="kind{number}" x="{100 * min(start, start + value):.4f}" y="0" '
                f'width="{100 * abs(value):.4f}" height="{_HIGH}"><title>{label}</title></rect>'
            )
    told = "; ".join(f"{kind} {100 * value:+.2f}" for kind, value in zip(kinds, values, strict=True) if value)
    said = escape(f"{name}: {told or 'nothing'}")
    return (
        f"<div><b>{escape(name)}</b><span>{100 * sum(values):.2f}</span></div>"
        f'<svg viewBox="{100 * low:.4f} 0 {100 * (high - low):.4f} {_HIGH}" preserveAspectRatio="none" role="img" '
        f'aria-label="{said}">{"".join(parts)}<line class="zero" x1="0" y1="0" x2="0" y2="{_HIGH}"/></svg>'
    )
