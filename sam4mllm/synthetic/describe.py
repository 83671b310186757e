"""Generates the phrases of a scene: proposes random structures and keeps the unambiguous ones.

The targets of a phrase are those of `Phrase.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sam4mllm.geometry.prompts import box_iou
from sam4mllm.synthetic.figures import COLOURS, SHAPES, SIZES, Figure, choose
from sam4mllm.synthetic.phrases import (
    NOTHING,
    RELATIONS,
    RIDDLES,
    SIDES,
    AllObjects,
    Description,
    ObjectAtSide,
    Phrase,
    RelatedObject,
    SingleObject,
    Targets,
    TwoObjects,
    has_relation,
)
from sam4mllm.synthetic.placing import SAME_BOX_IOU

Kind: TypeAlias = Literal["res", "several", "none", "reasoning"]
KINDS: tuple[Kind, ...] = ("res", "several", "none", "reasoning")
TRIES = 14


@dataclass(frozen=True, slots=True)
class Expression:
    """A phrase about one drawing.

    Attributes:
        text: the phrase.
        targets: ascending indices of the figures that the phrase refers to; empty for kind "none".
        kind: "res" (one target), "several" targets, "none", or "reasoning" (one target, described by its use).
        ambiguous: whether the visible box of a target and that of another figure have an IoU of `SAME_BOX_IOU` or more,
            so that a box alone cannot distinguish them.
        phrase: the structure of the text.
    """

    text: str
    targets: tuple[int, ...]
    kind: Kind
    ambiguous: bool
    phrase: Phrase


class PhraseGenerator:
    """Proposes phrases for the figures of one scene."""

    def __init__(self, figures: Sequence[Figure], rng: np.random.Generator) -> None:
        self.figures = figures
        self.rng = rng

    def noun(self, figure: Figure, full: bool = False) -> Description:
        """A random selection of a figure's attributes, at least one of them; all attributes if ``full``."""
        shape, colour, size = self.rng.random(3) < (0.85, 0.6, 0.25)
        if full:
            return Description(figure.shape, figure.colour, figure.size)
        return Description(
            figure.shape if shape or not (colour or size) else None,
            figure.colour if colour else None,
            figure.size if size else None,
        )

    def other(self, index: int) -> Figure:
        """A figure other than the one at ``index``; the same one if it is the only figure."""
        step = 1 + int(self.rng.integers(max(len(self.figures) - 1, 1)))
        return self.figures[(index + step) % len(self.figures)]

    def res(self, index: int) -> Iterator[Phrase]:
        """Candidate phrases for one figure: by its attributes, its side, or its relation to another figure."""
        figure = self.figures[index]
        for draw in self.rng.random(TRIES):
            if draw < 0.5:
                yield SingleObject(self.noun(figure))
            elif draw < 0.68:
                yield ObjectAtSide(self.noun(figure), choose(SIDES, self.rng))
            else:
                yield from self.relation(index)
        yield SingleObject(self.noun(figure, full=True))

    def relation(self, index: int) -> Iterator[Phrase]:
        """A true relation of a figure to another; rare relations (inside, in front of, behind) precede directions."""
        figure, anchor = self.figures[index], self.other(index)
        relations = [name for name in RELATIONS if anchor is not figure and has_relation(figure, name, anchor)]
        if relations:
            rare = [name for name in relations if name not in SIDES]
            yield RelatedObject(self.noun(figure), choose(rare or relations, self.rng), self.noun(anchor))

    def several(self) -> Iterator[Phrase]:
        """Candidate phrases for two or more figures."""
        for draw in self.rng.random(TRIES):
            index = int(self.rng.integers(len(self.figures)))
            figure = self.figures[index]
            if draw < 0.6:
                shape, colour = self.rng.random(2) < 0.5
                noun = Description(figure.shape if shape else None, figure.colour if colour else None)
                yield AllObjects(noun, two=bool(draw < 0.25))
            else:
                yield TwoObjects(self.noun(figure), self.noun(self.other(index)))

    def none(self) -> Iterator[Phrase]:
        """Candidate phrases without a target, most of them similar to a figure in the scene."""
        for draw in self.rng.random(TRIES):
            index = int(self.rng.integers(len(self.figures)))
            figure = self.figures[index]
            if draw < 0.55:
                yield SingleObject(self.altered(index))
            elif draw < 0.65:
                yield ObjectAtSide(self.altered(index), choose(SIDES, self.rng))
            elif draw < 0.8 and len(self.figures) > 1:
                yield RelatedObject(self.noun(figure), choose(tuple(RELATIONS), self.rng), self.noun(self.other(index)))
            elif draw < 0.88:
                yield AllObjects(self.altered(index))
            else:
                yield choose(RIDDLES, self.rng)
        yield SingleObject(Description(*self.absent()))

    def altered(self, index: int) -> Description:
        """A figure's shape and colour with one of them replaced, or with the wrong size."""
        figure, other = self.figures[index], self.other(index)
        draw, near = self.rng.random(2)
        borrow = near < 0.6 and other is not figure
        if draw < 0.45:
            return Description(figure.shape, other.colour if borrow else choose(COLOURS, self.rng))
        if draw < 0.9:
            return Description(other.shape if borrow else choose(SHAPES, self.rng), figure.colour)
        return Description(figure.shape, figure.colour, SIZES[figure.size == SIZES[0]])

    def absent(self) -> tuple[str, str]:
        """A shape and a colour that no figure in the scene has."""
        shapes = [shape for shape in SHAPES if shape not in {figure.shape for figure in self.figures}]
        colours = [colour for colour in COLOURS if colour not in {figure.colour for figure in self.figures}]
        return choose(shapes or SHAPES, self.rng), choose(colours or COLOURS, self.rng)

    def reasoning(self) -> Iterator[Phrase]:
        """All riddles, in random order."""
        for index in self.rng.permutation(len(RIDDLES)):
            yield RIDDLES[index]


def describe(figures: Sequence[Figure], rng: np.random.Generator, kinds: Sequence[Kind] = KINDS) -> list[Expression]:
    """The expressions of one scene, without repeated texts: one "res" per figure and one of each other kind.

    If no unambiguous phrase is found for a figure or a kind, it has no expression.
    """
    propose = PhraseGenerator(figures, rng)
    plans: list[tuple[Kind, Iterator[Phrase], Callable[[Targets], bool]]] = []
    if "res" in kinds:
        plans += [("res", propose.res(i), frozenset({i}).__eq__) for i in range(len(figures))]
    if "several" in kinds and len(figures) > 1:
        plans.append(("several", propose.several(), lambda targets: len(targets) > 1))
    if "none" in kinds:
        plans.append(("none", propose.none(), NOTHING.__eq__))
    if "reasoning" in kinds:
        plans.append(("reasoning", propose.reasoning(), lambda targets: len(targets) == 1))
    expressions: dict[str, Expression] = {}
    for kind, phrases, is_valid in plans:
        for phrase in phrases:
            indices = phrase.targets(figures)
            if indices is not None and is_valid(indices) and phrase.text not in expressions:
                targets = tuple(sorted(indices))
                expressions[phrase.text] = Expression(phrase.text, targets, kind, ambiguous(figures, targets), phrase)
                break
    return list(expressions.values())


def ambiguous(figures: Sequence[Figure], targets: Sequence[int]) -> bool:
    """Whether a target shares its visible box with a figure that is not a target."""
    other_boxes = [figure.seen_box for index, figure in enumerate(figures) if index not in targets]
    return any(box_iou(figures[index].seen_box, box) >= SAME_BOX_IOU for index in targets for box in other_boxes)
