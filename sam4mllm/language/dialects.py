"""How each MLLM family writes boxes and points: a table of rows, no code per family.

A row says a notation (two templates), a grid (how many cells the canvas is cut into, or its pixels) and how numbers
are printed. Writing fills the templates; reading searches for them, and after them for any bracketed group of four or
two numbers, in the row's own scale and order. Knows nothing of wording, and of pictures only their `Frame`.

In a template (see `notation`), ``$x0 $y0 $x1 $y1`` are a box, ``$x $y`` a point, ``$i0 $i1 $i`` the same as one index
into the grid row by row, ``$label`` the words for the object.

    >>> row = dialect("qwen2-vl")
    >>> row.write_box(Box(64, 48, 320, 240), Frame.whole(640, 480))
    '<|box_start|>(100,100),(500,500)<|box_end|>'
    >>> row.places("It is (100,100),(500,500).", Frame.whole(640, 480))
    [Place(start=6, end=25, value=Box(x0=64.0, y0=48.0, x1=320.0, y1=240.0))]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame, Point
from sam4mllm.language.patterns import Found, Search, bare_groups, bracketed, form

FAR = 1e9  # numbers beyond it are as good as it, and stay finite in every later step
EMPTY = 1e-6  # of a cell: a thinner box is a rounding error


@dataclass(frozen=True, slots=True)
class Place:
    """A box or a point that a text holds at ``text[start:end]``, in pixels of the original image."""

    start: int
    end: int
    value: Box | Point


@dataclass(frozen=True, slots=True)
class Dialect:
    """One family's way of writing places.

    Attributes:
        name: what recipes and the command line call it.
        box: the template of a box.
        point: the template of a point.
        label: the template of the words for the object, ``$text``, where the notation has room for them.
        cells: how many cells the canvas is cut into, along x and y alike.
        last: the largest index that is written: ``cells``, or ``cells - 1`` where the edge itself has no word.
        centre: whether an index means the middle of its cell, and not the cell's lower edge.
        centred: whether that holds for points, though the indices of boxes are edges.
        digits: indices are padded with zeros to this many.
        decimals: indices are written as a fraction of ``10 ** decimals``.
        pixels: a cell is one pixel of the frame's canvas, and ``cells`` and ``last`` do not matter.
        none: how it says that there is nothing.
        also: further templates, read and never written.
        model_types: the ``model_type`` of the transformers configurations that speak it.
    """

    name: str
    box: str
    point: str
    label: str = ""
    cells: int = 1000
    last: int = 1000
    centre: bool = False
    centred: bool = False
    digits: int = 1
    decimals: int = 0
    pixels: bool = False
    none: str = "none"
    also: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()

    @property
    def outline(self) -> tuple[str, str]:
        """The forms of a box and of a point with letters for numbers, to show to a model."""
        box, point = (re.sub(r"\$(?:label)?", "", template) for template in (self.box, self.point))
        return box, point

    def cell(self, frame: Frame) -> tuple[float, float]:
        """The size of one cell of the grid, in pixels of the original image: the finest step that can be said."""
        across, down = self._axes(frame)
        return across.cell, down.cell

    def write_box(self, box: Box, frame: Frame, label: str = "") -> str:
        """A box of the original image in this dialect; ``label`` is written where the notation has room for it.

        Brackets, quotes and backslashes of the label are dropped, so that it cannot be mistaken for notation.
        """
        across, down = self._axes(frame)
        (x0, x1), (y0, y1) = across.edges(box.x0, box.x1), down.edges(box.y0, box.y1)
        values = {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "i0": y0 * self.cells + x0, "i1": y1 * self.cells + x1}
        return self._filled(self.box, values, label)

    def write_point(self, point: Point, frame: Frame, label: str = "") -> str:
        """A point of the original image in this dialect, whatever its sign; ``label`` as in `write_box`."""
        across, down = self._axes(frame, self.centred)
        x, y = across.index(point.x), down.index(point.y)
        return self._filled(self.point, {"x": x, "y": y, "i": y * self.cells + x}, label)

    def places(self, text: str, frame: Frame) -> list[Place]:
        """Every box and point that a text holds, in order of appearance; empty for none. Never raises.

        The dialect's own forms, and between them any bracketed group of exactly four or two numbers; where there
        are neither, bare groups of four or two numbers on a line. Swapped edges are put in order, what lies outside
        is clipped to the image, and a box without an area becomes one cell wide. Points are positive.
        """
        found = _search(self).find(text) or [
            Found(start, end, self._slots(len(numbers)), tuple(numbers)) for start, end, numbers in bare_groups(text)
        ]
        return [Place(start, end, self._value(slots, numbers, frame)) for start, end, slots, numbers in found]

    def _axes(self, frame: Frame, centred: bool = False) -> tuple[_Axis, _Axis]:
        axes = []
        for axis in (0, 1):
            canvas = frame.canvas[axis]
            cells, last = (canvas, round(canvas)) if self.pixels else (self.cells, self.last)
            cell = canvas / cells / frame.scale[axis]
            origin = -frame.offset[axis] / frame.scale[axis]
            axes.append(_Axis(cells, last, self.centre or centred, cell, origin, frame.image[axis]))
        return axes[0], axes[1]

    def _filled(self, template: str, indices: Mapping[str, int], label: str) -> str:
        values = {slot: self._number(index) for slot, index in indices.items()}
        plain = re.sub(r"[\[\](){}<>\"\\]", "", label).strip()
        values["label"] = self.label.replace("$text", plain) if plain else ""
        return re.sub(r"\$(\w+)", lambda slot: values[slot[1]], template)

    def _number(self, index: int) -> str:
        return f"{index / 10**self.decimals:.{self.decimals}f}" if self.decimals else f"{index:0{self.digits}d}"

    def _slots(self, numbers: int) -> tuple[str, ...]:
        """What a group of so many plain numbers means in this dialect: x first, unless its own boxes begin with y."""
        slots = ("x0", "y0", "x1", "y1") if numbers == 4 else ("x", "y")
        if self.box.find("$y0") < self.box.find("$x0"):
            return tuple(slots[i ^ 1] for i in range(numbers))
        return slots

    def _value(self, slots: Sequence[str], numbers: Sequence[str], frame: Frame) -> Box | Point:
        """The box or point that the numbers of one form mean."""
        xs: list[float] = []
        ys: list[float] = []
        for slot, number in zip(slots, numbers, strict=True):
            value = min(max(float(number) * 10**self.decimals, -FAR), FAR)
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
        across, down = self._axes(frame, self.centred)
        return Point(across.place(xs[0]), down.place(ys[0]))


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a grid: ``cells`` of ``cell`` pixels each, from ``origin``, over an image of ``size`` pixels."""

    cells: float
    last: int
    centre: bool
    cell: float
    origin: float
    size: int

    def index(self, pixel: float) -> int:
        """The index to write for a place."""
        cells = (pixel - self.origin) / self.cell
        return min(max(math.floor(cells) if self.centre else round(cells), 0), self.last)

    def edges(self, low: float, high: float) -> tuple[int, int]:
        """The indices to write for two edges; where rounding would make them one, they are rounded outwards."""
        first, second = self.index(low), self.index(high)
        if first < second or self.centre:
            return first, second
        low, high = (low - self.origin) / self.cell, (high - self.origin) / self.cell
        return min(max(math.floor(low), 0), self.last), min(max(math.ceil(high), 0), self.last)

    def span(self, indices: Sequence[float]) -> tuple[float, float]:
        """Two edges that were read, in order, inside the image, and a cell apart where they would be one."""
        low, high = min(indices), max(indices)
        if self.centre:
            low, high = low + 0.5, high + 0.5
        elif high - low < EMPTY and low >= self.last:
            low = high = self.cells - 0.5  # the last index twice can only mean the last cell
        start = min(max(low * self.cell + self.origin, 0.0), float(self.size))
        end = min(max(high * self.cell + self.origin, 0.0), float(self.size))
        if end - start >= EMPTY * self.cell:
            return start, end
        width = min(self.cell, float(self.size))
        start = min(max((start + end - width) / 2, 0.0), self.size - width)
        return start, min(start + width, float(self.size))

    def place(self, index: float) -> float:
        """A coordinate that was read, clipped into the image: less than its size."""
        pixel = (index + 0.5 * self.centre) * self.cell + self.origin
        return min(max(pixel, 0.0), math.nextafter(self.size, 0))


@cache
def _search(row: Dialect) -> Search:
    """What a row's reader searches for."""
    # Many decoders drop special tokens, and a box's tags with them.
    templates = dict.fromkeys((row.box, row.point, *row.also, re.sub(r"<[^<>$]*>", "", row.box)))
    own = [form(template, row.digits) for template in templates]
    return Search.of([*own, *bracketed(row._slots(4)), *bracketed(row._slots(2))])


_JSON_BOX, _JSON_POINT = '{"bbox_2d":[$x0,$y0,$x1,$y1]$label}', '{"point_2d":[$x,$y]$label}'
_ROWS = (
    Dialect(
        "sam4mllm",
        box="[$x0,$y0,$x1,$y1]",
        point="($x,$y)",
        last=999,
        digits=3,
        model_types=("idefics3", "smolvlm"),  # not taught to write places: they learn the paper's way
    ),
    Dialect(
        "qwen2-vl",
        box="<|box_start|>($x0,$y0),($x1,$y1)<|box_end|>",
        point="<|box_start|>($x,$y)<|box_end|>",
        last=999,
        model_types=("qwen2_vl",),
    ),
    Dialect(
        "qwen2.5-vl",
        box=_JSON_BOX,
        point=_JSON_POINT,
        label=',"label":"$text"',
        pixels=True,
        model_types=("qwen2_5_vl",),
    ),
    Dialect(
        "qwen3-vl",
        box=_JSON_BOX,
        point=_JSON_POINT,
        label=',"label":"$text"',
        model_types=("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp"),
    ),
    Dialect(
        "llava",
        box="[$x0,$y0,$x1,$y1]",
        point="[$x,$y]",
        cells=100,
        last=100,
        decimals=2,
        model_types=("llava", "llava_next", "llava_next_video", "llava_onevision"),
    ),
    Dialect(
        "internvl",
        box="$label<box>[[$x0,$y0,$x1,$y1]]</box>",
        point="$label<box>[[$x,$y]]</box>",
        label="<ref>$text</ref>",
        model_types=("internvl",),
    ),
    Dialect(
        "paligemma",
        box="<loc$y0><loc$x0><loc$y1><loc$x1>$label",
        point="<loc$y><loc$x>",
        label=" $text",
        cells=1024,
        last=1023,
        digits=4,
        model_types=("paligemma",),
    ),
    Dialect(
        "florence-2",
        box="$label<loc_$x0><loc_$y0><loc_$x1><loc_$y1>",
        point="<loc_$x><loc_$y>",
        label="$text",
        last=999,
        centre=True,
        model_types=("florence2",),
    ),
    Dialect(
        "kosmos-2",
        box="$label<object><patch_index_$i0><patch_index_$i1></object>",
        point="<object><patch_index_$i></object>",
        label="<phrase>$text</phrase>",
        cells=32,
        last=31,
        centre=True,
        digits=4,
        model_types=("kosmos-2",),
    ),
    Dialect(
        "molmo2",
        box="[$x0,$y0,$x1,$y1]",
        point='<points coords="1 1 $x $y">$label</points>',  # picture 1, then (place 1, x, y)
        label="$text",
        digits=3,
        none="There are none.",
        also=('coords="1 1 $x0 $y0 $x1 $y1"', "$n $x $y"),  # boxes of a descendant; further points in one tag
        model_types=("molmo2",),
    ),
    Dialect(
        "gemma",
        box='{"box_2d":[$y0,$x0,$y1,$x1]$label}',
        point='{"point":[$y,$x]$label}',
        label=',"label":"$text"',
        model_types=("gemma3", "gemma3n", "gemma4", "gemma4_unified"),
    ),
    Dialect(
        "glm-4v",
        box="<|begin_of_box|>[[$x0,$y0,$x1,$y1]]<|end_of_box|>",
        point="<|begin_of_box|>[[$x,$y]]<|end_of_box|>",
        model_types=("glm4v", "glm4v_moe", "glm46v", "glmga"),
    ),
    Dialect(
        "tiny",  # of the embedded default, whose tokenizer has a token for each of its 112 pixels along an axis
        box="<box><p$x0><p$y0><p$x1><p$y1>",
        point="<p$x><p$y>",
        cells=112,
        last=112,
        centred=True,  # the middle of its pixel, or a point beside an edge would change sides
        digits=3,
    ),
)

DIALECTS: Mapping[str, Dialect] = {row.name: row for row in _ROWS}
_BY_MODEL_TYPE: Mapping[str, Dialect] = {model_type: row for row in _ROWS for model_type in row.model_types}


def dialect(name: str) -> Dialect:
    """The dialect of this name.

    Raises:
        UserError: for an unknown name; the message lists the choices.
    """
    if name not in DIALECTS:
        raise UserError(f"unknown dialect {name!r}: choose from {', '.join(DIALECTS)}")
    return DIALECTS[name]


def dialect_for(model_type: str) -> Dialect:
    """The dialect of a transformers ``config.model_type``; the paper's own for one that the table does not name."""
    return _BY_MODEL_TYPE.get(model_type, DIALECTS["sam4mllm"])
