"""Draws synthetic scenes with exact masks and unambiguous phrases; equal seeds give identical bytes.

Some figures share a box, so that a box cannot distinguish them: a disc that fills a ring, a cross on a square, two bars
that cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Mask
from sam4mllm.synthetic.describe import KINDS, Expression, Kind, describe
from sam4mllm.synthetic.figures import Figure
from sam4mllm.synthetic.paint import paint
from sam4mllm.synthetic.placing import Canvas

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SMALLEST = 32


@dataclass(frozen=True, slots=True)
class Level:
    """The difficulty of scenes.

    Attributes:
        objects: minimum and maximum number of figures; a scene has fewer if they do not fit.
        kinds: the kinds of expressions to generate.
        twins: probability that a scene of two or more figures contains a pair with nearly the same box, 0..1.
        nested: probability that it contains a small figure in the hole of a big one instead, 0..1. The sum with
            ``twins`` is at most 1.

    Raises:
        UserError: if a number or a kind is out of range.
    """

    objects: tuple[int, int] = (1, 4)
    kinds: tuple[Kind, ...] = KINDS
    twins: float = 0.4
    nested: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.objects[0] <= self.objects[1] <= 8:
            raise UserError(f"objects must be two numbers 1 <= least <= greatest <= 8, got {self.objects}")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise UserError(f"kinds must be some of {', '.join(KINDS)}, got {self.kinds}")
        if min(self.twins, self.nested) < 0 or self.twins + self.nested > 1:
            raise UserError(
                f"twins and nested must be 0 or more and sum to 1 at most, got {self.twins} and {self.nested}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A scene: the image, its figures in painting order, and expressions about them."""

    image: Image
    figures: tuple[Figure, ...]
    expressions: tuple[Expression, ...]

    @property
    def ambiguous(self) -> tuple[Expression, ...]:
        """The expressions with a target that shares its box with another figure."""
        return tuple(expression for expression in self.expressions if expression.ambiguous)

    def masks(self, expression: Expression) -> list[Mask]:
        """The visible mask of each target; empty if the expression has no target."""
        return [self.figures[index].mask for index in expression.targets]


def split_seed(split: Split, index: int) -> tuple[int, int]:
    """The seed of a scene, for `numpy.random.default_rng`; different splits and indices have different seeds.

    Raises:
        UserError: if the split is unknown or the index is negative.
    """
    if split not in SPLITS or index < 0:
        raise UserError(f"split must be one of {', '.join(SPLITS)} and index at least 0, got {split!r}, {index}")
    return SPLITS.index(split), index


def draw(rng: np.random.Generator, level: Level | None = None, size: int = 112) -> Drawing:
    """A scene of ``size`` x ``size`` pixels; equal generator states give identical bytes.

    Raises:
        UserError: if the size is below 32, because parts of figures would be thinner than a pixel.
    """
    if size < SMALLEST:
        raise UserError(f"a scene needs at least {SMALLEST} x {SMALLEST} pixels, got {size}")
    level = level or Level()
    canvas = Canvas(size, rng)
    canvas.fill(int(rng.integers(level.objects[0], level.objects[1] + 1)), level.twins, level.nested)
    figures = canvas.figures()
    layers = [(placed.pose, figure.mask, placed.colour) for placed, figure in zip(canvas.placed, figures, strict=True)]
    return Drawing(paint(layers, size, rng), figures, tuple(describe(figures, rng, level.kinds)))


def draw_split(split: Split, index: int, level: Level | None = None, size: int = 112) -> Drawing:
    """The scene with this index in a split, independent of earlier draws."""
    return draw(np.random.default_rng(split_seed(split, index)), level, size)
