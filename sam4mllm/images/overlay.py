"""Draws masks, boxes and points on images, for people to look at.

Objects are coloured by the cycle `COLOURS`. A positive point is a plus in a green disc and a negative one a minus in a
red disc, so that shape and colour both show the label. Coordinates are continuous (see `geometry.prompts`). OpenCV's
coordinates are pixel centres, so half a pixel is subtracted, in fixed point with sixteenths of a pixel.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import UInt8

from sam4mllm.geometry.prompts import Box, Image, Mask, Point, Prompt

AnySize: TypeAlias = UInt8[np.ndarray, "_ _ 3"]

COLOURS = ((0, 144, 255), (255, 140, 0), (200, 60, 255), (0, 210, 210), (255, 220, 0), (255, 105, 180), (120, 90, 255))
"""RGB colours of objects, used in a cycle; they differ from the green and red of points."""

MIN_SIDE = 480
"""An image with fewer pixels on its longer side is enlarged by an integer factor, so that points stay legible."""

_GREEN, _RED, _WHITE, _DARK = (0, 150, 60), (215, 25, 35), (255, 255, 255), (20, 20, 20)
_SHIFT = 4  # OpenCV's fixed-point bits: sixteenths of a pixel
_FAR = 2.0**20  # in pixels: outside any image, and within the integer range of OpenCV


def overlay(image: Image, prompts: Sequence[Prompt], masks: Sequence[Mask] = (), caption: str = "") -> AnySize:
    """The image with tinted and outlined masks, boxes, and labelled points.

    Args:
        image: the image.
        prompts: one per object, in pixels of the image; may be empty.
        masks: one per object, in the order of the prompts; may be empty.
        caption: text for a strip below the image; no strip if empty.

    Returns:
        An image of the same size, or enlarged by an integer factor if it is small (see `MIN_SIDE`). A caption adds to
        its height.
    """
    height, width = image.shape[:2]
    factor = max(1, math.ceil(MIN_SIDE / max(height, width)))
    canvas = _enlarged(image, factor)
    pen = max(2, round(max(canvas.shape[:2]) / 320))
    for index, mask in enumerate(masks):
        _draw_mask(canvas, _enlarged(mask.astype(np.uint8), factor), COLOURS[index % len(COLOURS)], pen)
    for index, prompt in enumerate(prompts):
        if prompt.box is not None:
            _draw_box(canvas, prompt.box, factor, COLOURS[index % len(COLOURS)], pen)
    for prompt in prompts:
        for point in prompt.points:
            _draw_point(canvas, point, factor, pen)
    return np.vstack([canvas, _strip(caption, canvas.shape[1], 7 * pen)]) if caption else canvas


def contact_sheet(tiles: Sequence[AnySize], columns: int, cell: tuple[int, int] = (480, 360)) -> AnySize:
    """The tiles in rows on a white sheet, each shrunk to fit its cell.

    Args:
        tiles: images of any size; without tiles the sheet has one row of empty cells.
        columns: number of tiles per row, 1 or more.
        cell: (width, height) of a cell, in pixels.
    """
    gap = 8
    rows = max(1, math.ceil(len(tiles) / columns))
    sheet = np.full((rows * (cell[1] + gap) + gap, columns * (cell[0] + gap) + gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        height, width = tile.shape[:2]
        scale = min(cell[0] / width, cell[1] / height, 1.0)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(tile, size, interpolation=cv2.INTER_AREA)
        row, column = divmod(index, columns)
        x = gap + column * (cell[0] + gap) + (cell[0] - size[0]) // 2
        y = gap + row * (cell[1] + gap) + (cell[1] - size[1]) // 2
        sheet[y : y + size[1], x : x + size[0]] = small
    return sheet


def _enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    """A copy with each pixel repeated as a block of factor x factor pixels."""
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def _at(x: float, y: float, factor: float) -> tuple[int, int]:
    """A position of the image in OpenCV's fixed-point canvas coordinates; far positions are clipped to `_FAR`."""
    near = (min(max(place * factor - 0.5, -_FAR), _FAR) for place in (x, y))
    column, row = (round(place * 2**_SHIFT) for place in near)
    return column, row


def _halo(pen: int) -> int:
    """The additional width of the lighter or darker rim of a line."""
    return 2 * max(1, pen // 3)


def _draw_mask(canvas: Image, mask: np.ndarray, colour: tuple[int, int, int], pen: int) -> None:
    inside = mask.astype(bool)
    canvas[inside] = (0.6 * canvas[inside] + 0.4 * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, _WHITE, pen + _halo(pen), cv2.LINE_AA)
    cv2.drawContours(canvas, outlines, -1, colour, pen, cv2.LINE_AA)


def _draw_box(canvas: Image, box: Box, factor: int, colour: tuple[int, int, int], pen: int) -> None:
    corners = _at(box.x0, box.y0, factor), _at(box.x1, box.y1, factor)
    for ink, width in ((_DARK, pen + _halo(pen)), (colour, pen)):
        cv2.rectangle(canvas, *corners, ink, width, cv2.LINE_AA, _SHIFT)


def _draw_point(canvas: Image, point: Point, factor: int, pen: int) -> None:
    place = _at(point.x, point.y, factor)
    radius, arm = 4 * pen, 2.2 * pen
    cv2.circle(canvas, place, (radius + pen) << _SHIFT, _WHITE, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    cv2.circle(canvas, place, radius << _SHIFT, _GREEN if point.positive else _RED, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    reach = round(arm * 2**_SHIFT)
    strokes = [(reach, 0), (0, reach)] if point.positive else [(reach, 0)]
    for dx, dy in strokes:
        ends = (place[0] - dx, place[1] - dy), (place[0] + dx, place[1] + dy)
        cv2.line(canvas, *ends, _WHITE, pen, cv2.LINE_AA, _SHIFT)


def _strip(caption: str, width: int, size: int) -> AnySize:
    """White text on a dark strip, without accents: Pillow's default font lacks them, and OpenCV's have only ASCII."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", caption) if not unicodedata.combining(letter))
    font = PIL.ImageFont.load_default(size)
    letters = max(4, int(0.93 * (width - size) * len(plain) / max(1.0, font.getlength(plain))))
    lines = textwrap.wrap(plain, letters)
    strip = PIL.Image.new("RGB", (width, int(size * (1.3 * len(lines) + 0.7))), _DARK)
    pen = PIL.ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        pen.text((size * 0.5, size * (1.3 * row + 0.3)), line, _WHITE, font)
    return np.asarray(strip)
