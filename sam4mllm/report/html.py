"""A page of pictures and figures as one HTML file: no scripts, nothing fetched, light and dark, every text escaped.

Takes what is to be seen as plain values, each made HTML by a function of its name; knows nothing of samples and models.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

# the page may not reach for anything, whatever stands in it
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NAMED = 200  # names in a list that can be unfolded
_STYLE = Path(__file__).with_name("sheet.css")
_PICTURE = re.compile(r'<img width="(\d+)" height="(\d+)" alt="([^"]*)" src="([^"]*)">')  # as `_panel` writes it


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
        replies: what a model said, word for word.
    """

    phrase: str
    name: str
    facts: tuple[str, ...]
    panels: tuple[Panel, ...]
    fault: str = ""
    iou: float | None = None
    iou_word: str = ""
    replies: tuple[str, ...] = ()


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
    """A head, and rows of as many cells; the first ``words`` columns hold words, the others figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def page(title: str, notes: Sequence[str], parts: Sequence[str]) -> str:
    """The whole page; the same values give the same text. A picture that stands in several places is held once.

    Args:
        title: of the page.
        notes: sentences below it.
        parts: HTML, from the functions below and from `charts`, `curves` and `bars`; empty ones leave nothing.
    """
    header = f"<header><h1>{escape(title)}</h1>{''.join(f'<p>{escape(note)}</p>' for note in notes)}</header>"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        + _held_once("\n".join([header, *filter(None, parts)]))
        + "\n</main>\n</body>\n</html>\n"
    )


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Figures, and what each counts."""
    return f'<div class="tiles">{"".join(map(_tile, figures))}</div>'


def beside(figures: Sequence[str]) -> str:
    """Charts beside each other, as far as there is room."""
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def findings(found: Sequence[Finding]) -> str:
    """Lists that can be unfolded; those that name nothing are passed over."""
    return "\n".join(_finding(each) for each in found if each.names)


def table(rows: Table) -> str:
    """A table that is scrolled where it is too wide."""
    head = "".join(f"<th{_kind(rows, column)}>{escape(cell)}</th>" for column, cell in enumerate(rows.head))
    lines = "".join(
        f"<tr>{''.join(f'<td{_kind(rows, column)}>{escape(cell)}</td>' for column, cell in enumerate(row))}</tr>"
        for row in rows.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def section(content: Section) -> str:
    """Cards below their heading; nothing for no cards."""
    if not content.cards:
        return ""
    cards = "\n".join(map(_card, content.cards))
    return (
        f"<section><h2>{escape(content.heading)}</h2><p>{escape(content.line)}</p>\n"
        f'<div class="cards">\n{cards}\n</div></section>'
    )


def _held_once(text: str) -> str:
    """Pictures that occur more than once as drawings, since only those can show again what stands elsewhere."""
    occurs = Counter(match[4] for match in _PICTURE.finditer(text))
    numbers: dict[str, int] = {}

    def shown(match: re.Match[str]) -> str:
        width, height, words, data = match.groups()
        if occurs[data] == 1:
            return match[0]
        again = data in numbers
        name = f"picture{numbers.setdefault(data, len(numbers))}"
        own = f'<image id="{name}" width="{width}" height="{height}" href="{data}"/>'
        drawing = f'<use href="#{name}"/>' if again else own
        return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{drawing}</svg>'

    return _PICTURE.sub(shown, text)


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


def _kind(rows: Table, column: int) -> str:
    return ' class="word"' if column < rows.words else ""


def _card(card: Card) -> str:
    words = f"<bdi>{escape(card.phrase)}</bdi>" if card.phrase.strip() else "<i>no words</i>"
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in card.facts)
    fault = f'<p class="fault">{escape(card.fault)}</p>' if card.fault else ""
    return (
        f'<article><div class="panels">{"".join(_panel(each, card.phrase) for each in card.panels)}</div>{fault}'
        f'<h3>{words}</h3>{_score(card)}<ul class="facts">{facts}</ul>{_replies(card)}'
        f"<code>{escape(card.name)}</code></article>"
    )


def _replies(card: Card) -> str:
    return "".join(f"<blockquote>{escape(reply)}</blockquote>" for reply in card.replies)


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
