"""Which items are in which conversation of an epoch: a pure function of numbers, the same for the same seed and epoch.

An epoch goes through each source as often as its weight says. The items of one picture are shuffled and cut into even
groups, each group is asked in one way, and what a conversation's budget has no room for goes to the picture's next
conversation of that way. Knows nothing of words, pictures and tokenizers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from sam4mllm.training.dataset.mixture import Asking

DRAWN, GROUPS, WAYS, POINTS, ORDER = range(5)  # streams of random numbers, so that none of them shifts another


@dataclass(frozen=True, slots=True, eq=False)
class Deck:
    """What epochs are made of.

    Attributes:
        source: which source each item is of.
        picture: which picture each item is about.
        uses: whether each item can be used in each way.
        passes: how often an epoch goes through each source, 0 or more.
        weights: of the ways.
        fixed: what an item costs in each way, but for the points that it is asked about.
        per_point: the cost of one more point on each of its objects; 0 in ways that ask about no points.
        capacity: what a conversation may cost.
        per_image: items of a conversation, at most.
        asked: about how many points is asked.
        seed: of all that is random.
    """

    source: Int64[np.ndarray, "items"]
    picture: Int64[np.ndarray, "items"]
    uses: Bool[np.ndarray, "kinds items"]
    passes: Float[np.ndarray, "sources"]
    weights: Float[np.ndarray, "kinds"]
    fixed: Int64[np.ndarray, "kinds items"]
    per_point: Int64[np.ndarray, "kinds items"]
    capacity: int
    per_image: int
    asked: Asking
    seed: int

    def rng(self, stream: int, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, epoch])


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The conversations of an epoch in order; conversation c holds members ``starts[c]`` to ``starts[c + 1]``.

    Attributes:
        kind: the way of each conversation.
        starts: of each conversation, and the end of the last.
        items: which item each member is.
        points: how many points of each object it is asked about.
        cost: what each conversation costs.
    """

    kind: Int64[np.ndarray, "rows"]
    starts: Int64[np.ndarray, "bounds"]
    items: Int64[np.ndarray, "members"]
    points: Int64[np.ndarray, "members"]
    cost: Int64[np.ndarray, "rows"]

    def __len__(self) -> int:
        return len(self.kind)


def epoch_of(deck: Deck, number: int) -> Epoch:
    """Epoch 0, 1, 2 ...: every item that can be used, as often as its source's weight says."""
    items, run = _gone_through(deck, number)
    order = np.lexsort((deck.rng(GROUPS, number).random(len(items)), run))
    items, run = items[order], run[order]
    group = _even_groups(run, deck.per_image)
    kind = _ways(deck, items, group, number)
    points = _points(deck, items, kind, number)
    cost = deck.fixed[kind, items] + points * deck.per_point[kind, items]
    together = np.lexsort((group, kind, run))  # a picture's groups of one way follow each other
    starts = _cut(run[together], kind[together], group[together], cost[together], deck)
    return _shuffled(starts, items[together], kind[together], points[together], cost[together], deck, number)


def _gone_through(deck: Deck, number: int) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The items of an epoch, and for each the run that it is in: those of one picture, pass and usability."""
    rng, usable = deck.rng(DRAWN, number), deck.uses.any(axis=0)
    chosen, passes = list[Int64[np.ndarray, "_"]](), list[Int64[np.ndarray, "_"]]()
    for source, weight in enumerate(deck.passes.tolist()):
        own = np.flatnonzero(usable & (deck.source == source))
        drawn = _drawn(deck.picture[own], weight % 1, rng)
        for step, some in enumerate([own] * math.floor(weight) + [own[drawn]]):
            chosen.append(some)
            passes.append(np.full(len(some), step))
    items = np.concatenate(chosen)
    pattern = np.packbits(deck.uses[:, items], axis=0).astype(np.int64)[0]
    parts = np.stack([deck.picture[items], np.concatenate(passes), pattern])
    return items, np.unique(parts, axis=1, return_inverse=True)[1].reshape(-1)


def _drawn(picture: Int64[np.ndarray, "n"], share: float, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """A share of items by whole pictures: pictures in random order, until enough items are among them."""
    pictures, which, sizes = np.unique(picture, return_inverse=True, return_counts=True)
    order = rng.permutation(len(pictures))
    before = np.zeros(len(pictures))
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    taken: Bool[np.ndarray, "n"] = (before < share * len(picture) * (1 - 1e-9))[which]
    return taken


def _even_groups(run: Int64[np.ndarray, "n"], most: int) -> Int64[np.ndarray, "n"]:
    """The number of each item's group: every run is cut into as few as hold ``most``, as even as can be."""
    sizes = np.unique(run, return_counts=True)[1]
    groups = -(-sizes // most)
    nth = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    per_group = np.repeat(sizes // groups, groups) + (nth < np.repeat(sizes % groups, groups))
    return np.repeat(np.arange(len(per_group)), per_group)


def _ways(
    deck: Deck, items: Int64[np.ndarray, "n"], group: Int64[np.ndarray, "n"], number: int
) -> Int64[np.ndarray, "n"]:
    """One way for all of a group, drawn by the weights of those in which its items can be used."""
    first = np.unique(group, return_index=True)[1]
    weights = deck.weights[:, None] * deck.uses[:, items[first]]
    below = np.cumsum(weights / weights.sum(axis=0), axis=0)
    drawn = deck.rng(WAYS, number).random(len(first))
    # the last way whose share is not all below the draw; rounding must not make it one that has no weight
    last = len(weights) - 1 - (weights[::-1] > 0).argmax(axis=0)
    kind: Int64[np.ndarray, "n"] = np.minimum((below <= drawn).sum(axis=0), last)[group]
    return kind


def _points(
    deck: Deck, items: Int64[np.ndarray, "n"], kind: Int64[np.ndarray, "n"], number: int
) -> Int64[np.ndarray, "n"]:
    """About how many points of each object each item is asked: what was drawn, or what there is room for."""
    asked, rng = deck.asked, deck.rng(POINTS, number)
    drawn = np.clip(np.rint(rng.normal(asked.mean, asked.deviation, len(items))), asked.least, asked.most)
    drawn[rng.random(len(items)) < asked.single] = 1
    per_point = deck.per_point[kind, items]
    room = (deck.capacity - deck.fixed[kind, items]) // np.maximum(per_point, 1)
    return np.where(per_point > 0, np.minimum(drawn, room), 0).astype(np.int64)


def _cut(
    run: Int64[np.ndarray, "n"],
    kind: Int64[np.ndarray, "n"],
    group: Int64[np.ndarray, "n"],
    cost: Int64[np.ndarray, "n"],
    deck: Deck,
) -> list[int]:
    """Where conversations start, and the end of the last one.

    A group is one conversation, unless it does not fit: what is left of it then begins the next one, and so on until
    a conversation ends where a group does.
    """
    starts, spent, whole, before = list[int](), 0, True, (-1, -1, -1)
    for at, (*own, price) in enumerate(np.stack([run, kind, group, cost], axis=1).tolist()):
        ended = tuple(own) != before
        anew = ended and (whole or tuple(own[:2]) != before[:2])
        if anew or spent + price > deck.capacity or at - starts[-1] == deck.per_image:
            starts.append(at)
            spent, whole = 0, ended
        spent, before = spent + price, (own[0], own[1], own[2])
    return [*starts, len(run)]


def _shuffled(
    starts: list[int],
    items: Int64[np.ndarray, "n"],
    kind: Int64[np.ndarray, "n"],
    points: Int64[np.ndarray, "n"],
    cost: Int64[np.ndarray, "n"],
    deck: Deck,
    number: int,
) -> Epoch:
    """The conversations in random order."""
    bounds = np.array(starts, dtype=np.int64)
    sizes, prices = np.diff(bounds), np.add.reduceat(cost, bounds[:-1])
    order = deck.rng(ORDER, number).permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    members = np.arange(len(items)) + np.repeat(bounds[:-1][order] - (ends - sizes[order]), sizes[order])
    return Epoch(kind[bounds[:-1]][order], np.concatenate([[0], ends]), items[members], points[members], prices[order])
