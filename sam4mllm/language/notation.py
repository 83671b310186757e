"""`Dialect`: writes boxes and points as text in one family's notation, and parses them from text.

A dialect is a notation (one template for boxes, one for points), a grid (a number of cells per axis, or the pixels of
the canvas) and a number format. Writing fills the templates. Parsing searches for them, and then for any bracketed
group of four or two numbers, which it reads in the dialect's own scale and axis order.

In a template (see `patterns`), ``$x0 $y0 $x1 $y1`` are the edges of a box, ``$x $y`` the position of a point,
``$i0 $i1 $i`` corners or points as row-major indices of grid cells, and ``$label`` is the object's name.

    >>> percent = Dialect("percent", box="<$x0,$y0,$x1,$y1>", point="<$x,$y>", cells=100, max_index=100)
    >>> percent.write_box(Box(64, 48, 320, 240), Frame.unscaled(640, 480))
    '<10,10,50,50>'
    >>> percent.places("It is <10,10,50,50>.", Frame.unscaled(640, 480))
    [Place(start=6, end=19, value=Box(x0=64.0, y0=48.0, x1=320.0, y1=240.0))]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sam4mllm.geometry.prompts import Box, Frame, Point
from sam4mllm.language.patterns import PlaceMatch, PlaceSearch, bracket_patterns, find_bare_groups, place_pattern

LARGEST_NUMBER = 1e9  # larger numbers are clipped to this, so that all later steps stay finite
EMPTY = 1e-6  # fraction of a cell; a box thinner than this is a rounding error


@dataclass(frozen=True, slots=True)
class Place:
    """A box or a point parsed from ``text[start:end]``, in pixels of the original image."""

    start: int
    end: int
    value: Box | Point


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one model family writes boxes and points.

    Attributes:
        name: the name in recipes and on the command line.
        box: the template of a box.
        point: the template of a point.
        label: the template that ``$label`` stands for, with ``$text`` as the object's name; empty if the notation has
            no label.
        cells: number of cells that the canvas is divided into, along x and along y.
        max_index: the largest index: ``cells``, or ``cells - 1`` if the notation cannot express the far edge.
        cell_centres: whether an index denotes the centre of its cell instead of the cell's lower edge.
        point_centres: the same for points only; the indices of boxes remain edges.
        digits: minimum number of digits of an index, padded with zeros.
        decimals: if positive, an index is written as a fraction of ``10 ** decimals`` with this many decimals.
        pixels: whether a cell is one pixel of the frame's canvas; ``cells`` and ``max_index`` are then ignored.
        none: the reply that means "no object".
        extra_templates: further templates that are parsed but never written.
        model_types: the ``model_type`` values of transformers configurations that use this dialect.
    """

    name: str
    box: str
    point: str
    label: str = ""
    cells: int = 1000
    max_index: int = 1000
    cell_centres: bool = False
    point_centres: bool = False
    digits: int = 1
    decimals: int = 0
    pixels: bool = False
    none: str = "none"
    extra_templates: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()

    @property
    def outline(self) -> tuple[str, str]:
        """The formats of a box and of a point with letters in place of numbers, for use in questions."""
        box, point = (re.sub(r"\$(?:label)?", "", template) for template in (self.box, self.point))
        return box, point

    def cell(self, frame: Frame) -> tuple[float, float]:
        """The (width, height) of one grid cell in pixels of the original image: the resolution of this dialect."""
        across, down = self._axes(frame)
        return across.cell, down.cell

    def write_box(self, box: Box, frame: Frame, label: str = "") -> str:
        """A box of the original image as text; ``label`` is ignored if the notation has no label.

        Brackets, quotes and backslashes are removed from the label, so that it cannot be mistaken for notation.
        """
        across, down = self._axes(frame)
        (x0, x1), (y0, y1) = across.edges(box.x0, box.x1), down.edges(box.y0, box.y1)
        values = {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "i0": y0 * self.cells + x0, "i1": y1 * self.cells + x1}
        return self._fill(self.box, values, label)

    def write_point(self, point: Point, frame: Frame, label: str = "") -> str:
        """A point of the original image as text, without its point label; ``label`` as in `write_box`."""
        across, down = self._axes(frame, self.point_centres)
        x, y = across.index(point.x), down.index(point.y)
        return self._fill(self.point, {"x": x, "y": y, "i": y * self.cells + x}, label)

    def places(self, text: str, frame: Frame) -> list[Place]:
        """Every box and point in a text, in order of appearance; empty if there are none. Never raises.

        Recognises the dialect's own templates and any bracketed group of exactly four or two numbers. If neither
        occurs, groups of four or two numbers on a line without brackets count. Swapped edges are reordered, boxes and
        points are clipped to the image, and a box without area is widened to one cell. All points are positive.
        """
        matches = _search(self).find(text) or [
            PlaceMatch(start, end, self._slots(len(numbers)), tuple(numbers))
            for start, end, numbers in find_bare_groups(text)
        ]
        return [Place(start, end, self._value(slots, numbers, frame)) for start, end, slots, numbers in matches]

    def _axes(self, frame: Frame, point_centres: bool = False) -> tuple[_Axis, _Axis]:
        axes = []
        for axis in (0, 1):
            canvas = frame.canvas[axis]
            cells, max_index = (canvas, round(canvas)) if self.pixels else (self.cells, self.max_index)
            cell = canvas / cells / frame.scale[axis]
            origin = -frame.offset[axis] / frame.scale[axis]
            axes.append(_Axis(cells, max_index, self.cell_centres or point_centres, cell, origin, frame.image[axis]))
        return axes[0], axes[1]

    def _fill(self, template: str, indices: Mapping[str, int], label: str) -> str:
        values = {slot: self._number(index) for slot, index in indices.items()}
        text = re.sub(r"[\[\](){}<>\"\\]", "", label).strip()
        values["label"] = self.label.replace("$text", text) if text else ""
        return re.sub(r"\$(\w+)", lambda slot: values[slot[1]], template)

    def _number(self, index: int) -> str:
        return f"{index / 10**self.decimals:.{self.decimals}f}" if self.decimals else f"{index:0{self.digits}d}"

    def _slots(self, numbers: int) -> tuple[str, ...]:
        """The slots of a group of four or two numbers: x first, or y first if the dialect's boxes begin with y."""
        slots = ("x0", "y0", "x1", "y1") if numbers == 4 else ("x", "y")
        if self.box.find("$y0") < self.box.find("$x0"):
            return tuple(slots[i ^ 1] for i in range(numbers))
        return slots

    def _value(self, slots: Sequence[str], numbers: Sequence[str], frame: Frame) -> Box | Point:
        """The box or point that the numbers of one match denote."""
        xs: list[float] = []
        ys: list[float] = []
        for slot, number in zip(slots, numbers, strict=True):
            value = min(max(float(number) * 10**self.decimals, -LARGEST_NUMBER), LARGEST_NUMBER)
            if slot[0] == "i":
                row, column = divmod(int(min(max(value, 0), self.cells**2 - 1)), self.cells)
                xs.append(column)
                ys.append(row)
            else:
                (xs if slot[0] == "x" else ys).append(value)
        if len(xs) == 2:
            across, down = self._axes(frame)
            (x0, x1), (y0, y1) = across.span(xs), down.span(ys)
            return Box(x0, y0, x1, y1)
        across, down = self._axes(frame, self.point_centres)
        return Point(across.place(xs[0]), down.place(ys[0]))


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the grid: cells of ``cell`` pixels, starting at pixel ``origin`` of an image of ``size`` pixels."""

    cells: float
    max_index: int
    cell_centres: bool
    cell: float
    origin: float
    size: int

    def index(self, pixel: float) -> int:
        """The index of a coordinate in pixels."""
        cells = (pixel - self.origin) / self.cell
        return min(max(math.floor(cells) if self.cell_centres else round(cells), 0), self.max_index)

    def edges(self, low: float, high: float) -> tuple[int, int]:
        """The indices of two edges; if they would round to the same index, they are rounded outwards."""
        first, second = self.index(low), self.index(high)
        if first < second or self.cell_centres:
            return first, second
        low, high = (low - self.origin) / self.cell, (high - self.origin) / self.cell
        return min(max(math.floor(low), 0), self.max_index), min(max(math.ceil(high), 0), self.max_index)

    def span(self, indices: Sequence[float]) -> tuple[float, float]:
        """Two parsed edges in pixels: in order, inside the image, and one cell apart if they coincide."""
        low, high = min(indices), max(indices)
        if self.cell_centres:
            low, high = low + 0.5, high + 0.5
        elif high - low < EMPTY and low >= self.max_index:
            low = high = self.cells - 0.5  # both indices are the last one: the box is the last cell
        start = min(max(low * self.cell + self.origin, 0.0), float(self.size))
        end = min(max(high * self.cell + self.origin, 0.0), float(self.size))
        if end - start >= EMPTY * self.cell:
            return start, end
        width = min(self.cell, float(self.size))
        start = min(max((start + end - width) / 2, 0.0), self.size - width)
        return start, min(start + width, float(self.size))

    def place(self, index: float) -> float:
        """A parsed coordinate in pixels, clipped to the image: at least 0 and less than its size."""
        pixel = (index + 0.5 * self.cell_centres) * self.cell + self.origin
        return min(max(pixel, 0.0), math.nextafter(self.size, 0))


@cache
def _search(row: Dialect) -> PlaceSearch:
    """Everything that `Dialect.places` recognises in brackets or tags."""
    # many decoders drop special tokens, including the tags of a box: search for the box without tags too
    templates = dict.fromkeys((row.box, row.point, *row.extra_templates, re.sub(r"<[^<>$]*>", "", row.box)))
    forms = [place_pattern(template, row.digits) for template in templates]
    return PlaceSearch.from_patterns([*forms, *bracket_patterns(row._slots(4)), *bracket_patterns(row._slots(2))])
