"""Figures and their exact masks.

A pixel belongs to a figure if its centre is inside the outline; there is no anti-aliasing and no polygon filling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float

from sam4mllm.geometry.prompts import Box, Mask, bounding_box

T = TypeVar("T")
Coordinates: TypeAlias = Float[np.ndarray, "h w"]
SHAPES = ("circle", "square", "triangle", "cross", "ring", "frame", "horseshoe", "bar")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SIZES = ("small", "big")
HOLLOW = ("ring", "frame", "horseshoe")
RADII = {"small": (0.09, 0.14), "big": (0.18, 0.28)}
"""Least and greatest radius as fractions of the image side; the gap keeps small and big distinguishable."""
TURNS = {"square": 12.0, "frame": 12.0, "cross": 45.0, "triangle": 180.0, "horseshoe": 180.0, "bar": 180.0}  # degrees
BORES = {"ring": (0.55, 0.8), "frame": (0.55, 0.8), "horseshoe": (0.5, 0.7), "cross": (0.24, 0.36), "bar": (0.2, 0.32)}
HALF = 0.88  # half the side of a square, as a fraction of its radius


@dataclass(frozen=True, slots=True)
class Pose:
    """Position and form of a figure: centre and radius in pixels, angle in radians.

    ``bore`` is a fraction of the radius: the radius of the hole for hollow shapes, half the width of an arm for a cross
    or a bar. Other shapes do not use it.
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
        depth: index in the painting order; figures with a higher depth cover those with a lower one.
        mask: the visible pixels. The masks of one drawing are disjoint.
        full: all pixels, including covered ones.
        hole: the area inside a ring, a frame or a horseshoe; None for other shapes.
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
        """The centre of ``box``, as fractions of the image width and height."""
        height, width = self.full.shape
        return (self.box.x0 + self.box.x1) / (2 * width), (self.box.y0 + self.box.y1) / (2 * height)

    @property
    def seen_box(self) -> Box:
        """The tightest box around the visible pixels."""
        box = bounding_box(self.mask)
        return self.box if box is None else box


def choose(options: Sequence[T], rng: np.random.Generator) -> T:
    """A random option; all have the same probability."""
    return options[int(rng.integers(len(options)))]


def inside_outline(shape: str, u: Coordinates, v: Coordinates, bore: float) -> Mask:
    """Which positions belong to a shape of radius 1 around the origin; v points down.

    Raises:
        ValueError: if the shape is not one of `SHAPES`.
    """
    if shape not in SHAPES:
        raise ValueError(f"unknown shape {shape!r}: choose from {', '.join(SHAPES)}")
    far, span = u * u + v * v, np.maximum(np.abs(u), np.abs(v))
    outline: Mask
    match shape:
        case "circle":
            outline = far <= 1
        case "ring":
            outline = (far <= 1) & (far > bore * bore)
        case "horseshoe":  # a ring with a gap at the bottom
            outline = (far <= 1) & (far > bore * bore) & ((v < 0) | (np.abs(u) > 0.8 * bore))
        case "square":
            outline = span <= HALF
        case "frame":
            outline = (span <= HALF) & (span > bore * HALF)
        case "triangle":  # corners on the unit circle, one of them at the top
            outline = np.maximum(v, math.sqrt(0.75) * np.abs(u) - v / 2) <= 0.5
        case "cross":
            outline = (span <= 1) & (np.minimum(np.abs(u), np.abs(v)) <= bore)
        case _:  # a bar
            outline = (np.abs(u) <= 1) & (np.abs(v) <= bore)
    return outline


def inside_hole(shape: str, u: Coordinates, v: Coordinates, bore: float) -> Mask:
    """Which positions are in the hole of a hollow shape of radius 1."""
    hole: Mask = np.maximum(np.abs(u), np.abs(v)) <= bore * HALF if shape == "frame" else u * u + v * v <= bore * bore
    return hole


def figure_coordinates(pose: Pose, window: tuple[slice, slice]) -> tuple[Coordinates, Coordinates]:
    """The pixel centres of a window (rows, columns) in the figure's coordinates: not rotated, radius 1."""
    rows, columns = window
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - pose.x)) / np.float32(pose.radius)
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - pose.y)) / np.float32(pose.radius)
    sine, cosine = np.float32(math.sin(pose.angle)), np.float32(math.cos(pose.angle))
    return cosine * x + sine * y[:, None], cosine * y[:, None] - sine * x


def pixel_window(pose: Pose, side: int) -> tuple[slice, slice]:
    """The rows and columns that a figure can touch, clipped to an image of ``side`` x ``side`` pixels."""
    reach = pose.radius * 1.42  # a square's corner
    rows, columns = (slice(max(0, math.floor(c - reach)), min(side, math.ceil(c + reach))) for c in (pose.y, pose.x))
    return rows, columns


def rasterise(pose: Pose, side: int) -> tuple[Mask, Mask | None]:
    """The masks of a figure and of its hole in an image of ``side`` x ``side`` pixels; the hole can be None."""
    window = pixel_window(pose, side)
    u, v = figure_coordinates(pose, window)
    full = np.zeros((side, side), dtype=bool)
    full[window] = inside_outline(pose.shape, u, v, pose.bore)
    if pose.shape not in HOLLOW:
        return full, None
    hole = np.zeros_like(full)
    hole[window] = inside_hole(pose.shape, u, v, pose.bore)
    return full, hole
