"""Referring expressions as small structures: each says its words and finds its targets. Knows nothing of pixels' looks.

``targets`` is the whole truth about a phrase: the indices of the figures it names, the empty set where it names
nothing, and None where a careful reader could argue (two rings for "the ring", a centre barely left of another). What
can be argued about is never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from sam4mllm.synthetic.figures import COLOURS, SHAPES, SIZES, Figure

Targets: TypeAlias = frozenset[int]
SIDES = ("left", "right", "top", "bottom")
RELATIONS = {
    "left": "left of",
    "right": "right of",
    "top": "above",
    "bottom": "below",
    "inside": "inside",
    "front": "in front of",
    "behind": "behind",
}
MARGIN = 0.12  # of the picture's side: how far apart two centres must be to be told apart
PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
NOTHING: Targets = frozenset()


@runtime_checkable
class Phrase(Protocol):
    """A referring expression."""

    @property
    def text(self) -> str:
        """Its words."""
        ...

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        """The figures it names; empty where it names nothing, None where that can be argued about."""
        ...


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of figure; what is None is left open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None

    def words(self, plural: bool = False) -> str:
        """Like "big red ring", or "red shapes"."""
        shape = self.shape or "shape"
        head = PLURALS.get(shape, "shapes") if plural else shape
        return " ".join(word for word in (self.size, self.colour, head) if word)

    def matches(self, figures: Sequence[Figure]) -> Targets:
        """The figures of this kind."""
        return frozenset(
            index
            for index, figure in enumerate(figures)
            if self.shape in (None, figure.shape)
            and self.colour in (None, figure.colour)
            and self.size in (None, figure.size)
        )


@dataclass(frozen=True, slots=True)
class The:
    """ "the red ring"."""

    noun: Noun

    @property
    def text(self) -> str:
        return f"the {self.noun.words()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        found = self.noun.matches(figures)
        return found if len(found) < 2 else None


@dataclass(frozen=True, slots=True)
class TheAt:
    """ "the cross on the left": the leftmost of several, or the only one where it lies in that part of the picture."""

    noun: Noun
    side: str

    @property
    def text(self) -> str:
        return f"the {self.noun.words()} {'on' if self.side in ('left', 'right') else 'at'} the {self.side}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        near = sorted((_from_side(figures[index], self.side), index) for index in self.noun.matches(figures))
        if not near:
            return NOTHING
        clear = near[0][0] < 0.4 if len(near) == 1 else near[1][0] - near[0][0] >= MARGIN
        return frozenset({near[0][1]}) if clear else None


@dataclass(frozen=True, slots=True)
class TheBy:
    """ "the square left of the blue cross"; ``relation`` is a key of `RELATIONS`."""

    noun: Noun
    relation: str
    anchor: Noun

    @property
    def text(self) -> str:
        return f"the {self.noun.words()} {RELATIONS[self.relation]} the {self.anchor.words()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        anchors = self.anchor.matches(figures)
        if len(anchors) != 1:
            return NOTHING if not anchors else None
        (anchor,) = anchors
        holds = {
            index: related(figures[index], self.relation, figures[anchor])
            for index in self.noun.matches(figures) - anchors
        }
        found = frozenset(index for index, held in holds.items() if held)
        return None if None in holds.values() or len(found) > 1 else found


@dataclass(frozen=True, slots=True)
class All:
    """ "all red shapes", or "both circles" where ``two``."""

    noun: Noun
    two: bool = False

    @property
    def text(self) -> str:
        return f"{'both' if self.two else 'all'} {self.noun.words(plural=True)}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        found = self.noun.matches(figures)
        if not found:
            return found
        return found if len(found) >= 2 and (len(found) == 2 or not self.two) else None


@dataclass(frozen=True, slots=True)
class Pair:
    """ "the ring and the red cross"."""

    first: Noun
    second: Noun

    @property
    def text(self) -> str:
        return f"the {self.first.words()} and the {self.second.words()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        first, second = self.first.matches(figures), self.second.matches(figures)
        return first | second if len(first) == len(second) == 1 and first != second else None


@dataclass(frozen=True, slots=True)
class Riddle:
    """A figure named by its use: ``fits`` are the shapes it means, ``perhaps`` those that somebody might mean."""

    text: str
    fits: frozenset[str]
    perhaps: frozenset[str] = frozenset()

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        found = frozenset(index for index, figure in enumerate(figures) if figure.shape in self.fits)
        argued = any(figure.shape in self.perhaps for figure in figures)
        return None if argued or len(found) > 1 else found


RIDDLES = (
    Riddle("the one that would roll", frozenset({"circle", "ring"}), frozenset({"horseshoe"})),
    Riddle("the one you could pull a rope through", frozenset({"ring", "frame"}), frozenset({"horseshoe"})),
    Riddle("the one you could wear on a finger", frozenset({"ring"}), frozenset({"horseshoe"})),
    Riddle("the one that could hold a picture", frozenset({"frame"}), frozenset({"ring"})),
    Riddle("the one like a full moon", frozenset({"circle"}), frozenset({"ring"})),
    Riddle("the one with three corners", frozenset({"triangle"})),
    Riddle("the one that marks a hospital", frozenset({"cross"})),
    Riddle("the one that brings luck", frozenset({"horseshoe"})),
    Riddle("the one you could walk with", frozenset({"bar"})),
)
WORDS = tuple(
    sorted(
        {
            "the",
            "shape",
            "shapes",
            "on",
            "at",
            "and",
            "all",
            "both",
            *SIDES,
            *SHAPES,
            *PLURALS.values(),
            *COLOURS,
            *SIZES,
        }
        | {word for words in RELATIONS.values() for word in words.split()}
        | {word for riddle in RIDDLES for word in riddle.text.split()}
    )
)
"""Every word that a phrase can hold."""


def _from_side(figure: Figure, side: str) -> float:
    """How far a figure's centre is from a side, as a share of the picture."""
    x, y = figure.centre
    return {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side]


def related(figure: Figure, relation: str, anchor: Figure) -> bool | None:
    """Whether a figure stands in a relation to another; None where that can be argued about."""
    match relation:
        case "inside":
            return _inside(figure, anchor)
        case "front":
            return _in_front(figure, anchor)
        case "behind":
            return _in_front(anchor, figure)
    nearer = _from_side(anchor, relation) - _from_side(figure, relation)
    (x, y), (u, v) = figure.centre, anchor.centre
    across = abs(y - v) if relation in ("left", "right") else abs(x - u)
    if nearer < -MARGIN / 2:
        return False
    return True if nearer >= max(MARGIN, across / 2) else None


def _inside(figure: Figure, anchor: Figure) -> bool | None:
    """Whether a figure lies in another's hole, all but a rim of it."""
    if anchor.hole is None:
        covers = bool((figure.full & anchor.full).any())
        return None if covers else False  # a cross on a square is "inside" of it to some
    share = int(np.count_nonzero(figure.full & anchor.hole)) / int(np.count_nonzero(figure.full))
    return True if share >= 0.9 else (False if share < 0.05 else None)


def _in_front(figure: Figure, anchor: Figure) -> bool | None:
    """Whether a figure hides a part of another."""
    covered = int(np.count_nonzero(figure.full & anchor.full))
    if covered == 0:
        return False if anchor.hole is None or not (figure.full & anchor.hole).any() else None
    least = min(int(np.count_nonzero(figure.full)), int(np.count_nonzero(anchor.full)))
    return figure.depth > anchor.depth if covered >= 0.08 * least else None
