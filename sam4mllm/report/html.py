"""Self-contained HTML pages: values in, one file out. No scripts, no network, every text escaped by Jinja2.

Each part of a page is a value that names its template in ``templates/``.

    >>> render_page("val", [], [Tiles([("3", "images")])])
    '<!doctype html>\\n<html lang="en">...'
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jinja2 import Environment, PackageLoader, StrictUndefined

_MAX_ITEMS = 200  # items of a folded list
_ENVIRONMENT = Environment(
    loader=PackageLoader("sam4mllm.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@runtime_checkable  # beartype checks it in tests
class PagePart(Protocol):
    """A block of a page. Its template reads it as ``part``."""

    @property
    def template(self) -> str:
        """File name in ``templates/``."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Headline numbers, each a pair of the number and its label."""

    template: ClassVar[str] = "tiles.html"
    numbers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FoldedList:
    """A list behind its title and its length; renders nothing if empty.

    Attributes:
        title: visible while the list is folded.
        items: the first 200 are listed, the others are counted.
        warning: whether the items are problems, which are highlighted.
    """

    template: ClassVar[str] = "folded_list.html"
    title: str
    items: Sequence[str]
    warning: bool = True

    @property
    def listed(self) -> Sequence[str]:
        """The items that are written out."""
        return self.items[:_MAX_ITEMS]


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table that scrolls sideways if it is too wide.

    Attributes:
        caption: what the table shows.
        head: the column headers.
        rows: one cell per column.
        text_columns: number of leading columns that hold text; the others hold numbers, aligned right.
    """

    template: ClassVar[str] = "table.html"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class ChartGrid:
    """Charts side by side, in as many columns as fit; renders nothing if empty."""

    template: ClassVar[str] = "chart_grid.html"
    charts: Sequence[PagePart]


@dataclass(frozen=True, slots=True)
class Panel:
    """One JPEG image with its size in pixels and a caption."""

    jpeg: bytes
    width: int
    height: int
    caption: str

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True, slots=True)
class HtmlCard:
    """One sample.

    Attributes:
        phrase: the referring expression.
        sample_id: id of the sample.
        facts: short texts, such as numbers of points.
        panels: the images; empty if the image cannot be read.
        fault: the problem with the sample or its image; empty without a problem.
        iou: IoU in 0..1, drawn as a bar; None for no bar.
        iou_label: kind of the IoU.
        replies: the model's replies, verbatim.
    """

    phrase: str
    sample_id: str
    facts: tuple[str, ...]
    panels: tuple[Panel, ...]
    fault: str = ""
    iou: float | None = None
    iou_label: str = ""
    replies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageSection:
    """Cards under a heading and an explanation; renders nothing without cards."""

    template: ClassVar[str] = "section.html"
    heading: str
    text: str
    cards: Sequence[HtmlCard]


def render_page(title: str, notes: Sequence[str], parts: Sequence[PagePart]) -> str:
    """The page as HTML. Equal values give equal text, and each distinct image is stored once.

    Args:
        title: heading of the page.
        notes: sentences below the title.
        parts: blocks of the page, from top to bottom.
    """
    sections = [part for part in parts if isinstance(part, PageSection) and part.cards]
    panels = [panel for section in sections for card in section.cards for panel in card.panels]
    return _ENVIRONMENT.get_template("page.html").render(
        title=title, notes=notes, parts=parts, sections=sections, images=_ImageStore(panels)
    )


class _ImageStore:
    """Ids of the images that occur more than once: the first occurrence stores the data, later occurrences refer to it.

    Only SVG can refer to an image elsewhere on the page, so an image that occurs once stays an ``<img>``.
    """

    def __init__(self, panels: Sequence[Panel]) -> None:
        self._uses = Counter(panel.jpeg for panel in panels)
        self._ids: dict[bytes, str] = {}

    def is_shared(self, panel: Panel) -> bool:
        """Whether the image occurs more than once."""
        return self._uses[panel.jpeg] > 1

    def is_stored(self, panel: Panel) -> bool:
        """Whether an earlier panel holds the image."""
        return panel.jpeg in self._ids

    def id_of(self, panel: Panel) -> str:
        """The id of a shared image, unique on the page."""
        return self._ids.setdefault(panel.jpeg, f"image{len(self._ids)}")
