"""Synthetic scenes with exact masks and unarguable phrases, the same bytes for the same seed.

Some figures are put so that a box cannot say which is meant: a disc that fills a ring, a cross over a square, two bars
that cross. Knows nothing of models, prompts and files.
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
    """How hard scenes are.

    Attributes:
        objects: the least and the greatest number of figures; now and then the greatest does not fit and is missed.
        kinds: the kinds of expressions asked for.
        twins: how often a scene of two figures or more holds a pair whose boxes nearly coincide, 0..1.
        nested: how often it holds a small figure in a large one's hole instead, 0..1; with ``twins`` at most 1.

    Raises:
        UserError: for numbers or kinds that are not among those.
    """

    objects: tuple[int, int] = (1, 4)
    kinds: tuple[Kind, ...] = KINDS
    twins: float = 0.4
    nested: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.objects[0] <= self.objects[1] <= 8:
            raise UserError(f"objects are two numbers 1 <= least <= greatest <= 8, got {self.objects}")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise UserError(f"kinds are some of {', '.join(KINDS)}, got {self.kinds}")
        if min(self.twins, self.nested) < 0 or self.twins + self.nested > 1:
            raise UserError(f"twins and nested are shares that sum to 1 at most, got {self.twins} and {self.nested}")


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A scene: the picture, its figures in painting order, and what can be said about them."""

    image: Image
    figures: tuple[Figure, ...]
    expressions: tuple[Expression, ...]

    @property
    def ambiguous(self) -> tuple[Expression, ...]:
        """The expressions for which a box alone does not say what is meant."""
        return tuple(expression for expression in self.expressions if expression.ambiguous)

    def masks(self, expression: Expression) -> list[Mask]:
        """The masks of what is seen of each target; none for a phrase that names nothing."""
        return [self.figures[index].mask for index in expression.targets]


def split_seed(split: Split, index: int) -> tuple[int, int]:
    """The seed of a split's scene, for `numpy.random.default_rng`; no two splits or indices share one.

    Raises:
        UserError: for an unknown split or a negative index.
    """
    if split not in SPLITS or index < 0:
        raise UserError(f"a split is one of {', '.join(SPLITS)} and an index at least 0, got {split!r}, {index}")
    return SPLITS.index(split), index


def draw(rng: np.random.Generator, level: Level | None = None, size: int = 112) -> Drawing:
    """A scene of ``size`` x ``size`` pixels; the same generator state gives the same bytes.

    Raises:
        UserError: for a size under 32, at which a figure's parts are no pixels wide.
    """
    if size < SMALLEST:
        raise UserError(f"a scene needs at least {SMALLEST} x {SMALLEST} pixels, got {size}")
    level = level or Level()
    canvas = Canvas(size, rng)
    canvas.fill(int(rng.integers(level.objects[0], level.objects[1] + 1)), level.twins, level.nested)
    figures = canvas.figures()
    layers = [(one.pose, figure.mask, one.colour) for one, figure in zip(canvas.placed, figures, strict=True)]
    return Drawing(paint(layers, size, rng), figures, tuple(describe(figures, rng, level.kinds)))


def draw_split(split: Split, index: int, level: Level | None = None, size: int = 112) -> Drawing:
    """The ``index``-th scene of a split, whatever was drawn before."""
    return draw(np.random.default_rng(split_seed(split, index)), level, size)
