"""Paints drawings: a textured background, textured and shaded figures, and noise.

Textures are generated once per image size from a fixed seed. A drawing uses crops of them, so painting costs one table
lookup per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Int16, UInt8

from sam4mllm.geometry.prompts import Image, Mask
from sam4mllm.synthetic.figures import Pose, figure_coordinates, pixel_window

PALETTE = {
    "red": (214, 48, 44),
    "green": (48, 158, 62),
    "blue": (52, 84, 214),
    "yellow": (228, 202, 52),
    "purple": (150, 62, 176),
    "white": (232, 232, 228),
}  # RGB
TEXTURES = 48
NOISE = 9.0  # standard deviation, in grey levels


def _smooth_noise(side: int, rng: np.random.Generator) -> Float32[np.ndarray, "s s"]:
    """Smooth noise of several octaves."""
    clouds = np.zeros((side, side), dtype=np.float32)
    for cells, weight in ((3, 1.0), (6, 0.6), (13, 0.4)):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        clouds += np.float32(weight) * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    return clouds


def _pattern(side: int, rng: np.random.Generator, kind: int) -> Float32[np.ndarray, "s s"]:
    """Stripes, checks or dots plus smooth noise, or the noise alone."""
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.05, 0.14) * side / 2
    y, x = np.mgrid[:side, :side].astype(np.float32)
    a = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
    b = np.sin((y * math.cos(angle) - x * math.sin(angle)) * 2 * math.pi / period)
    lines = (a, np.sign(a * b), np.maximum(a + b - 0.6, -0.6), np.zeros_like(a))[kind % 4]
    pattern: Float32[np.ndarray, "s s"] = (lines + _smooth_noise(side, rng)).astype(np.float32)
    return pattern


@lru_cache(maxsize=4)
def _textures(side: int) -> UInt8[np.ndarray, "n s s"]:
    """Grey tiles with twice the side of the image, each normalised to 0..255."""
    rng = np.random.default_rng(7)
    tiles = [_pattern(2 * side, rng, kind) for kind in range(TEXTURES)]
    return np.stack([cv2.normalize(tile, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for tile in tiles])


@lru_cache(maxsize=4)
def _noise(side: int) -> Int16[np.ndarray, "s s 3"]:
    """A tile of sensor noise with twice the side of the image."""
    rng = np.random.default_rng(8)
    return rng.normal(0.0, NOISE, (2 * side, 2 * side, 3)).round().astype(np.int16)


def _ramp(dark: Float32[np.ndarray, "3"], light: Float32[np.ndarray, "3"]) -> UInt8[np.ndarray, "256 3"]:
    """The colours from dark to light, indexed by grey level."""
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    ramp: UInt8[np.ndarray, "256 3"] = np.clip(dark + (light - dark) * steps, 0, 255).astype(np.uint8)
    return ramp


def _background(side: int, rng: np.random.Generator) -> Image:
    """A textured background that varies between two desaturated palette colours."""
    tile = _textures(side)[rng.integers(TEXTURES)]
    row, column = rng.integers(side, size=2)
    hues = np.asarray(list(PALETTE.values()), dtype=np.float32)[rng.integers(len(PALETTE), size=2)]
    desaturation, bright = (
        rng.uniform(0.2, 0.8, (2, 1)).astype(np.float32),
        rng.uniform(0.35, 1.0, (2, 1)).astype(np.float32),
    )
    grey = hues.mean(axis=1, keepdims=True)
    first, second = (hues + (grey - hues) * desaturation) * bright
    ground: Image = _ramp(first, second)[tile[row : row + side, column : column + side]]
    return ground


def _paint_figure(image: Image, pose: Pose, mask: Mask, colour: str, rng: np.random.Generator) -> None:
    """Paint a figure's visible pixels in place: its colour with jitter, texture and a gradient of light."""
    side = image.shape[0]
    window = pixel_window(pose, side)
    height, width = window[0].stop - window[0].start, window[1].stop - window[1].start
    row, column = rng.integers(side, size=2)
    tile = _textures(side)[rng.integers(TEXTURES)][row : row + height, column : column + width]
    base = np.asarray(PALETTE[colour], dtype=np.float32) + rng.uniform(-18, 18, 3).astype(np.float32)
    grain, slope_u, slope_v = rng.uniform((0.2, -40, -40), (0.8, 40, 40)).astype(np.float32)
    u, v = figure_coordinates(pose, window)
    level = np.float32(128) + grain * (tile - np.float32(128)) + slope_u * u + slope_v * v
    colours = _ramp(base * np.float32(0.55), np.minimum(base * np.float32(1.3) + np.float32(20), np.float32(255)))
    visible = mask[window]
    image[window][visible] = colours[np.clip(level[visible], 0, 255).astype(np.uint8)]


def paint(layers: Sequence[tuple[Pose, Mask, str]], side: int, rng: np.random.Generator) -> Image:
    """An image of figures, given as (pose, visible pixels, colour).

    The image is slightly blurred, as by a lens; the masks remain exact.
    """
    image = _background(side, rng)
    for pose, mask, colour in layers:
        _paint_figure(image, pose, mask, colour, rng)
    image = cv2.GaussianBlur(image, (3, 3), 0.6)
    row, column = rng.integers(side, size=2)
    noisy: Image = cv2.add(image, _noise(side)[row : row + side, column : column + side], dtype=cv2.CV_8U)
    return noisy
