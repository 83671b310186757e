"""Referring expressions as structures that generate their text and compute their targets.

``targets`` returns the indices of the figures that a phrase refers to, or an empty set if it refers to none. It returns
None if the answer is debatable, for example with two rings for "the ring", or a centre that is barely left of another.
Debatable phrases are never used.
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
MARGIN = 0.12  # least distance of two centres for a direction to hold, as a fraction of the image side
PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
NOTHING: Targets = frozenset()


@runtime_checkable
class Phrase(Protocol):
    """A referring expression."""

    @property
    def text(self) -> str:
        """The text of the phrase."""
        ...

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        """Indices of the figures that the phrase refers to; empty if there are none, None if that is debatable."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """A description of figures by attributes; None matches any value."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None

    def text(self, plural: bool = False) -> str:
        """The description as text, such as "big red ring" or "red shapes"."""
        shape = self.shape or "shape"
        head = PLURALS.get(shape, "shapes") if plural else shape
        return " ".join(filter(None, (self.size, self.colour, head)))

    def matches(self, figures: Sequence[Figure]) -> Targets:
        """Indices of the figures with these attributes."""
        return frozenset(
            index
            for index, figure in enumerate(figures)
            if self.shape in (None, figure.shape)
            and self.colour in (None, figure.colour)
            and self.size in (None, figure.size)
        )


@dataclass(frozen=True, slots=True)
class SingleObject:
    """ "the red ring"."""

    noun: Description

    @property
    def text(self) -> str:
        return f"the {self.noun.text()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        matches = self.noun.matches(figures)
        return matches if len(matches) < 2 else None


@dataclass(frozen=True, slots=True)
class ObjectAtSide:
    """ "the cross on the left": the leftmost of several, or the only one if it is in that part of the image."""

    noun: Description
    side: str

    @property
    def text(self) -> str:
        return f"the {self.noun.text()} {'on' if self.side in ('left', 'right') else 'at'} the {self.side}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        near = sorted((_from_side(figures[index], self.side), index) for index in self.noun.matches(figures))
        if not near:
            return NOTHING
        clear = near[0][0] < 0.4 if len(near) == 1 else near[1][0] - near[0][0] >= MARGIN
        return frozenset({near[0][1]}) if clear else None


@dataclass(frozen=True, slots=True)
class RelatedObject:
    """ "the square left of the blue cross"; ``relation`` is a key of `RELATIONS`."""

    noun: Description
    relation: str
    anchor: Description

    @property
    def text(self) -> str:
        return f"the {self.noun.text()} {RELATIONS[self.relation]} the {self.anchor.text()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        anchors = self.anchor.matches(figures)
        if len(anchors) != 1:
            return NOTHING if not anchors else None
        [anchor] = anchors
        candidates = self.noun.matches(figures) - anchors
        holds = {index: has_relation(figures[index], self.relation, figures[anchor]) for index in candidates}
        targets = frozenset(index for index, is_related in holds.items() if is_related)
        return None if None in holds.values() or len(targets) > 1 else targets


@dataclass(frozen=True, slots=True)
class AllObjects:
    """ "all red shapes", or "both circles" if ``two``."""

    noun: Description
    two: bool = False

    @property
    def text(self) -> str:
        return f"{'both' if self.two else 'all'} {self.noun.text(plural=True)}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        matches = self.noun.matches(figures)
        if not matches:
            return matches
        return matches if len(matches) >= 2 and (len(matches) == 2 or not self.two) else None


@dataclass(frozen=True, slots=True)
class TwoObjects:
    """ "the ring and the red cross"."""

    first: Description
    second: Description

    @property
    def text(self) -> str:
        return f"the {self.first.text()} and the {self.second.text()}"

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        first, second = self.first.matches(figures), self.second.matches(figures)
        return first | second if len(first) == len(second) == 1 and first != second else None


@dataclass(frozen=True, slots=True)
class Riddle:
    """A figure described by its use: ``fits`` are the shapes that match, ``perhaps`` those that are debatable."""

    text: str
    fits: frozenset[str]
    perhaps: frozenset[str] = frozenset()

    def targets(self, figures: Sequence[Figure]) -> Targets | None:
        targets = frozenset(index for index, figure in enumerate(figures) if figure.shape in self.fits)
        debatable = any(figure.shape in self.perhaps for figure in figures)
        return None if debatable or len(targets) > 1 else targets


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
_TEXTS = (
    *("the shape shapes on at and all both", *SIDES, *SHAPES, *PLURALS.values(), *COLOURS, *SIZES),
    *(*RELATIONS.values(), *(riddle.text for riddle in RIDDLES)),
)
WORDS = tuple(sorted(set(" ".join(_TEXTS).split())))
"""Every word that can occur in a phrase."""


def _from_side(figure: Figure, side: str) -> float:
    """Distance of a figure's centre from a side of the image, as a fraction of the image side."""
    x, y = figure.centre
    return {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side]


def has_relation(figure: Figure, relation: str, anchor: Figure) -> bool | None:
    """Whether a figure has this relation to another; None if that is debatable."""
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
    """Whether at least 90% of a figure is in the hole of another; None if that is debatable."""
    if anchor.hole is None:
        covers = bool((figure.full & anchor.full).any())
        return None if covers else False  # some would call a cross on a square "inside" it
    share = int(np.count_nonzero(figure.full & anchor.hole)) / int(np.count_nonzero(figure.full))
    return True if share >= 0.9 else (False if share < 0.05 else None)


def _in_front(figure: Figure, anchor: Figure) -> bool | None:
    """Whether a figure covers a part of another; None if that is debatable."""
    covered = int(np.count_nonzero(figure.full & anchor.full))
    if covered == 0:
        return False if anchor.hole is None or not (figure.full & anchor.hole).any() else None
    least = min(int(np.count_nonzero(figure.full)), int(np.count_nonzero(anchor.full)))
    return figure.depth > anchor.depth if covered >= 0.08 * least else None
