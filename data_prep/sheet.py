"""A contact sheet as one HTML page: no scripts, nothing fetched, light and dark, every text escaped.

Takes what is to be seen as plain values; knows nothing of samples, targets and models.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

# the page may not reach for anything, whatever stands in it
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NAMED = 200  # names in a list that can be unfolded
_STYLE = Path(__file__).with_name("sheet.css")


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture, as JPEG, with its size and a word below it."""

    jpeg: bytes
    width: int
    height: int
    word: str


@dataclass(frozen=True, slots=True)
class Card:
    """One case.

    Attributes:
        phrase: the words that were asked.
        name: of the sample.
        facts: a few words each.
        panels: the pictures; none where the picture cannot be read.
        fault: what is wrong with it, in words; empty where nothing is.
        iou: 0..1, drawn as a bar; None where there is none.
        iou_word: what kind of IoU it is.
    """

    phrase: str
    name: str
    facts: tuple[str, ...]
    panels: tuple[Panel, ...]
    fault: str = ""
    iou: float | None = None
    iou_word: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Cards under a heading, with a line that says which they are."""

    heading: str
    line: str
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is counted and named: what it is, and the names; none is good news."""

    what: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A head, and rows of as many cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def page(
    title: str,
    notes: Sequence[str],
    tiles: Sequence[tuple[str, str]],
    table: Table,
    findings: Sequence[Finding],
    charts: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """The whole page; the same values give the same text.

    Args:
        title: of the page.
        notes: sentences below it.
        tiles: figures, and what each counts.
        table: below the tiles.
        findings: those that name nothing are passed over.
        charts: HTML, from `data_prep.charts`.
        sections: those without cards are passed over.
    """
    parts = [
        f"<header><h1>{escape(title)}</h1>{''.join(f'<p>{escape(note)}</p>' for note in notes)}</header>",
        f'<div class="tiles">{"".join(map(_tile, tiles))}</div>',
        *(_finding(each) for each in findings if each.names),
        f'<div class="charts">{"".join(charts)}</div>',
        _table(table),
        *(_section(each) for each in sections if each.cards),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _tile(tile: tuple[str, str]) -> str:
    return f"<div><b>{escape(tile[0])}</b><span>{escape(tile[1])}</span></div>"


def _finding(finding: Finding) -> str:
    names = "".join(f"<li>{escape(name)}</li>" for name in finding.names[:_NAMED])
    more = len(finding.names) - _NAMED
    rest = f"<li>and {more:,} more</li>" if more > 0 else ""
    return (
        f'<details class="finding"><summary>{escape(finding.what)}: {len(finding.names):,}</summary>'
        f"<ul>{names}{rest}</ul></details>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _section(section: Section) -> str:
    cards = "\n".join(map(_card, section.cards))
    return (
        f"<section><h2>{escape(section.heading)}</h2><p>{escape(section.line)}</p>\n"
        f'<div class="cards">\n{cards}\n</div></section>'
    )


def _card(card: Card) -> str:
    words = f"<bdi>{escape(card.phrase)}</bdi>" if card.phrase.strip() else "<i>no words</i>"
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in card.facts)
    fault = f'<p class="fault">{escape(card.fault)}</p>' if card.fault else ""
    return (
        f'<article><div class="panels">{"".join(_panel(each, card.phrase) for each in card.panels)}</div>{fault}'
        f'<h3>{words}</h3>{_score(card)}<ul class="facts">{facts}</ul><code>{escape(card.name)}</code></article>'
    )


def _score(card: Card) -> str:
    if card.iou is None:
        return ""
    level = "low" if card.iou < 0.5 else "middle" if card.iou < 0.75 else "high"
    return (
        f'<div class="score {level}"><span class="track"><i style="width:{100 * card.iou:.1f}%"></i></span>'
        f"<b>{card.iou:.3f}</b><span>{escape(card.iou_word)}</span></div>"
    )


def _panel(panel: Panel, phrase: str) -> str:
    data = base64.b64encode(panel.jpeg).decode()
    return (
        f'<figure><img width="{panel.width}" height="{panel.height}" alt="{escape(f"{panel.word}: {phrase}")}" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{escape(panel.word)}</figcaption></figure>'
    )
