"""Figures with exact masks: what is drawn where, pixel by pixel. Knows nothing of colours' looks nor of phrases.

A pixel belongs to a figure where its centre lies inside of the outline: no anti-aliasing, no polygon filling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sam4mllm.geometry.prompts import Box, Mask, box_of

SHAPES = ("circle", "square", "triangle", "cross", "ring", "frame", "horseshoe", "bar")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "big")
RADII = {"small": (0.09, 0.14), "big": (0.18, 0.28)}  # of the picture's side; the gap keeps the words apart
TURNS = {"square": 12.0, "frame": 12.0, "cross": 45.0, "triangle": 180.0, "horseshoe": 180.0, "bar": 180.0}  # degrees
BORES = {"ring": (0.55, 0.8), "frame": (0.55, 0.8), "horseshoe": (0.5, 0.7), "cross": (0.24, 0.36), "bar": (0.2, 0.32)}
HALF = 0.88  # half a square's side, of its radius


@dataclass(frozen=True, slots=True)
class Pose:
    """How a figure lies: centre and radius in pixels, angle in radians.

    ``bore`` is the hole's share of the radius for the hollow shapes, the arm's half width for a cross and a bar; other
    shapes do not use it.
    """

    shape: str
    x: float
    y: float
    radius: float
    angle: float
    bore: float


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One object of a drawing.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        size: one of `SIZES`.
        depth: its place in the painting order; a higher one covers a lower one.
        mask: the pixels on which it is seen. Masks of one drawing are disjoint.
        full: all of its pixels, the covered ones included.
        hole: the room inside of a ring, a frame or a horseshoe; None for the others.
        box: the tightest box around ``full``.
    """

    shape: str
    colour: str
    size: str
    depth: int
    mask: Mask
    full: Mask
    hole: Mask | None
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the amodal box, as shares of the picture's width and height."""
        height, width = self.full.shape
        return (self.box.x0 + self.box.x1) / (2 * width), (self.box.y0 + self.box.y1) / (2 * height)

    @property
    def seen_box(self) -> Box:
        """The tightest box around what is seen of it."""
        box = box_of(self.mask)
        return self.box if box is None else box


def inside_outline(
    shape: str, u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"], bore: float
) -> Bool[np.ndarray, "h w"]:
    """Which places belong to a shape of radius 1 around the origin, v pointing down.

    Raises:
        ValueError: for a shape that is not one of `SHAPES`.
    """
    if shape not in SHAPES:
        raise ValueError(f"a shape is one of {', '.join(SHAPES)}; got {shape!r}")
    far, span = u * u + v * v, np.maximum(np.abs(u), np.abs(v))
    outline: Mask
    match shape:
        case "circle":
            outline = far <= 1
        case "ring":
            outline = (far <= 1) & (far > bore * bore)
        case "horseshoe":  # a ring, open below
            outline = (far <= 1) & (far > bore * bore) & ((v < 0) | (np.abs(u) > 0.8 * bore))
        case "square":
            outline = span <= HALF
        case "frame":
            outline = (span <= HALF) & (span > bore * HALF)
        case "triangle":  # corners on the unit circle, one of them above
            outline = np.maximum(v, math.sqrt(0.75) * np.abs(u) - v / 2) <= 0.5
        case "cross":
            outline = (span <= 1) & (np.minimum(np.abs(u), np.abs(v)) <= bore)
        case _:  # a bar
            outline = (np.abs(u) <= 1) & (np.abs(v) <= bore)
    return outline


def inside_hole(
    shape: str, u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"], bore: float
) -> Bool[np.ndarray, "h w"] | None:
    """Which places lie in the hole of a hollow shape of radius 1; None for a shape without one."""
    hole: Mask | None = None
    if shape in ("ring", "horseshoe"):
        hole = u * u + v * v <= bore * bore
    elif shape == "frame":
        hole = np.maximum(np.abs(u), np.abs(v)) <= bore * HALF
    return hole


def local(pose: Pose, window: tuple[slice, slice]) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """The pixel centres of a window (rows, columns) in the figure's own frame: turned back, radius 1."""
    rows, columns = window
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - pose.x)) / np.float32(pose.radius)
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - pose.y)) / np.float32(pose.radius)
    sine, cosine = np.float32(math.sin(pose.angle)), np.float32(math.cos(pose.angle))
    return cosine * x + sine * y[:, None], cosine * y[:, None] - sine * x


def window_of(pose: Pose, side: int) -> tuple[slice, slice]:
    """The rows and columns that a figure can touch, cut to a picture of ``side`` x ``side`` pixels."""
    reach = pose.radius * 1.42  # a square's corner
    rows, columns = (slice(max(0, math.floor(c - reach)), min(side, math.ceil(c + reach))) for c in (pose.y, pose.x))
    return rows, columns


def rasterise(pose: Pose, side: int) -> tuple[Mask, Mask | None]:
    """All pixels of a figure, and those of its hole, on a picture of ``side`` x ``side`` pixels."""
    window = window_of(pose, side)
    u, v = local(pose, window)
    full = np.zeros((side, side), dtype=bool)
    full[window] = inside_outline(pose.shape, u, v, pose.bore)
    room = inside_hole(pose.shape, u, v, pose.bore)
    if room is None:
        return full, None
    hole = np.zeros((side, side), dtype=bool)
    hole[window] = room
    return full, hole
