"""Which phrases a scene is asked: structures are proposed at random and kept where they are beyond argument.

Knows nothing of pixels' looks; the truth of a phrase is the phrase's own (`Phrase.targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sam4mllm.geometry.prompts import box_iou
from sam4mllm.synthetic.figures import COLOURS, SHAPES, SIZES, Figure
from sam4mllm.synthetic.phrases import (
    NOTHING,
    RELATIONS,
    RIDDLES,
    SIDES,
    All,
    Noun,
    Pair,
    Phrase,
    Targets,
    The,
    TheAt,
    TheBy,
    related,
)
from sam4mllm.synthetic.placing import ALIKE

Kind: TypeAlias = Literal["res", "several", "none", "reasoning"]
KINDS: tuple[Kind, ...] = ("res", "several", "none", "reasoning")
TRIES = 14


@dataclass(frozen=True, slots=True)
class Expression:
    """A phrase about one drawing.

    Attributes:
        text: the phrase.
        targets: indices of the figures it names, ascending; empty for a phrase of kind "none".
        kind: "res" (one target), "several", "none", or "reasoning" (one target, named by its use).
        ambiguous: whether a target's box (of what is seen) is nearly that of a figure that is no target: IoU of
            `ALIKE` or more. A box alone does not say which of the two is meant.
        phrase: the structure behind the text.
    """

    text: str
    targets: tuple[int, ...]
    kind: Kind
    ambiguous: bool
    phrase: Phrase


class Describer:
    """Proposes phrases for the figures of one scene."""

    def __init__(self, figures: Sequence[Figure], rng: np.random.Generator) -> None:
        self.figures = figures
        self.rng = rng

    def one_of(self, choices: Sequence[str]) -> str:
        """A choice, all alike likely."""
        return choices[int(self.rng.integers(len(choices)))]

    def noun(self, figure: Figure, full: bool = False) -> Noun:
        """Some of a figure's attributes, at least one of them; all where ``full``."""
        shape, colour, size = self.rng.random(3) < (0.85, 0.6, 0.25)
        if full:
            return Noun(figure.shape, figure.colour, figure.size)
        return Noun(
            figure.shape if shape or not (colour or size) else None,
            figure.colour if colour else None,
            figure.size if size else None,
        )

    def other(self, index: int) -> Figure:
        """Another figure than the one at ``index``; the same where it is alone."""
        step = 1 + int(self.rng.integers(max(len(self.figures) - 1, 1)))
        return self.figures[(index + step) % len(self.figures)]

    def res(self, index: int) -> Iterator[Phrase]:
        """Phrases that may name one figure: its attributes, its place, its relation to another."""
        figure = self.figures[index]
        for draw in self.rng.random(TRIES):
            if draw < 0.5:
                yield The(self.noun(figure))
            elif draw < 0.68:
                yield TheAt(self.noun(figure), self.one_of(SIDES))
            else:
                yield from self.relation(index)
        yield The(self.noun(figure, full=True))

    def relation(self, index: int) -> Iterator[Phrase]:
        """A relation of a figure to another that holds, the rarer ones first: holes and hiding, then directions."""
        figure, anchor = self.figures[index], self.other(index)
        held = [name for name in RELATIONS if anchor is not figure and related(figure, name, anchor)]
        if held:
            rare = [name for name in held if name not in SIDES]
            yield TheBy(self.noun(figure), self.one_of(rare or held), self.noun(anchor))

    def several(self) -> Iterator[Phrase]:
        """Phrases that may name two figures or more."""
        for draw in self.rng.random(TRIES):
            index = int(self.rng.integers(len(self.figures)))
            figure = self.figures[index]
            if draw < 0.6:
                shape, colour = self.rng.random(2) < 0.5
                noun = Noun(figure.shape if shape else None, figure.colour if colour else None)
                yield All(noun, two=bool(draw < 0.25))
            else:
                yield Pair(self.noun(figure), self.noun(self.other(index)))

    def none(self) -> Iterator[Phrase]:
        """Phrases that may name nothing, each a small step from what is there."""
        for draw in self.rng.random(TRIES):
            index = int(self.rng.integers(len(self.figures)))
            figure = self.figures[index]
            if draw < 0.55:
                yield The(self.altered(index))
            elif draw < 0.65:
                yield TheAt(self.altered(index), self.one_of(SIDES))
            elif draw < 0.8 and len(self.figures) > 1:
                yield TheBy(self.noun(figure), self.one_of(tuple(RELATIONS)), self.noun(self.other(index)))
            elif draw < 0.88:
                yield All(self.altered(index))
            else:
                yield RIDDLES[int(self.rng.integers(len(RIDDLES)))]
        yield The(Noun(*self.absent()))

    def altered(self, index: int) -> Noun:
        """A figure's shape and colour with one of them, or its size, exchanged; for another figure's, where it can."""
        figure, other = self.figures[index], self.other(index)
        draw, near = self.rng.random(2)
        borrow = near < 0.6 and other is not figure
        if draw < 0.45:
            return Noun(figure.shape, other.colour if borrow else self.one_of(COLOURS))
        if draw < 0.9:
            return Noun(other.shape if borrow else self.one_of(SHAPES), figure.colour)
        return Noun(figure.shape, figure.colour, SIZES[figure.size == SIZES[0]])

    def absent(self) -> tuple[str, str]:
        """A shape and a colour that no figure of the scene has."""
        shapes = [shape for shape in SHAPES if shape not in {figure.shape for figure in self.figures}]
        colours = [colour for colour in COLOURS if colour not in {figure.colour for figure in self.figures}]
        return self.one_of(shapes or SHAPES), self.one_of(colours or COLOURS)

    def reasoning(self) -> Iterator[Phrase]:
        """All riddles, in random order."""
        for index in self.rng.permutation(len(RIDDLES)):
            yield RIDDLES[index]


def describe(figures: Sequence[Figure], rng: np.random.Generator, kinds: Sequence[Kind] = KINDS) -> list[Expression]:
    """The expressions of one scene, no text twice: one "res" for each figure that has one, one of each other kind.

    A kind for which the scene offers nothing beyond argument is left out.
    """
    propose = Describer(figures, rng)
    plans: list[tuple[Kind, Iterator[Phrase], Callable[[Targets], bool]]] = []
    if "res" in kinds:
        plans += [("res", propose.res(i), frozenset({i}).__eq__) for i in range(len(figures))]
    if "several" in kinds and len(figures) > 1:
        plans.append(("several", propose.several(), lambda found: len(found) > 1))
    if "none" in kinds:
        plans.append(("none", propose.none(), NOTHING.__eq__))
    if "reasoning" in kinds:
        plans.append(("reasoning", propose.reasoning(), lambda found: len(found) == 1))
    kept: dict[str, Expression] = {}
    for kind, phrases, wanted in plans:
        for phrase in phrases:
            found = phrase.targets(figures)
            if found is not None and wanted(found) and phrase.text not in kept:
                targets = tuple(sorted(found))
                kept[phrase.text] = Expression(phrase.text, targets, kind, ambiguous(figures, targets), phrase)
                break
    return list(kept.values())


def ambiguous(figures: Sequence[Figure], targets: Sequence[int]) -> bool:
    """Whether a target shares its box with a figure that is no target."""
    others = [figure.seen_box for index, figure in enumerate(figures) if index not in targets]
    return any(box_iou(figures[index].seen_box, box) >= ALIKE for index in targets for box in others)
