"""Groups the items of an epoch into conversations; the result depends only on the seed and the epoch's number.

An epoch uses each source as often as its weight says. The items of an image are shuffled and cut into groups of even
size, and a kind is drawn for each group. Items that exceed a conversation's budget move to the image's next
conversation of that kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from sam4mllm.training.dataset.mixture import PointSampling

DRAWN, GROUPS, WAYS, POINTS, ORDER = range(5)  # separate random streams, so that a change in one does not shift another


@dataclass(frozen=True, slots=True, eq=False)
class SamplerInput:
    """The items that epochs are drawn from, with their costs, and the settings of the draw.

    Attributes:
        source: the number of each item's source.
        picture: the number of each item's image.
        uses: whether each item can be used for each kind.
        passes: how often an epoch uses each source, 0 or more.
        weights: the weights of the kinds.
        fixed: the cost of an item in each kind, without its points.
        per_point: the cost of one more point on each of its objects; 0 for kinds that ask about no points.
        capacity: the largest cost of a conversation.
        per_image: the most items in a conversation.
        asked: the numbers of points to ask about.
        seed: the seed of all random draws.
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
    asked: PointSampling
    seed: int

    def rng(self, stream: int, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, epoch])


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The conversations of an epoch in order; conversation c holds members ``starts[c]`` to ``starts[c + 1]``.

    Attributes:
        kind: the kind of each conversation.
        starts: the first member of each conversation, and the end of the last conversation.
        items: the item of each member.
        points: the number of points per object that each member is asked about.
        cost: the cost of each conversation.
    """

    kind: Int64[np.ndarray, "rows"]
    starts: Int64[np.ndarray, "bounds"]
    items: Int64[np.ndarray, "members"]
    points: Int64[np.ndarray, "members"]
    cost: Int64[np.ndarray, "rows"]

    def __len__(self) -> int:
        return len(self.kind)


def make_epoch(deck: SamplerInput, number: int) -> Epoch:
    """The conversations of epoch ``number``: every usable item, as often as its source's weight says."""
    items, run = _draw_items(deck, number)
    order = np.lexsort((deck.rng(GROUPS, number).random(len(items)), run))
    items, run = items[order], run[order]
    group = _even_groups(run, deck.per_image)
    kind = _draw_kinds(deck, items, group, number)
    points = _draw_points(deck, items, kind, number)
    cost = deck.fixed[kind, items] + points * deck.per_point[kind, items]
    order = np.lexsort((group, kind, run))  # the groups of an image that have the same kind are adjacent
    starts = _conversation_starts(run[order], kind[order], group[order], cost[order], deck)
    return _shuffle(starts, items[order], kind[order], points[order], cost[order], deck, number)


def _draw_items(deck: SamplerInput, number: int) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The items of an epoch, and the number of each item's run: items of the same image, pass and usable kinds."""
    rng, usable = deck.rng(DRAWN, number), deck.uses.any(axis=0)
    chosen, passes = list[Int64[np.ndarray, "_"]](), list[Int64[np.ndarray, "_"]]()
    for source, weight in enumerate(deck.passes.tolist()):
        members = np.flatnonzero(usable & (deck.source == source))
        is_drawn = _draw_share(deck.picture[members], weight % 1, rng)
        for step, pass_items in enumerate([members] * math.floor(weight) + [members[is_drawn]]):
            chosen.append(pass_items)
            passes.append(np.full(len(pass_items), step))
    items = np.concatenate(chosen)
    pattern = np.packbits(deck.uses[:, items], axis=0).astype(np.int64)[0]
    parts = np.stack([deck.picture[items], np.concatenate(passes), pattern])
    return items, np.unique(parts, axis=1, return_inverse=True)[1].reshape(-1)


def _draw_share(image: Int64[np.ndarray, "n"], share: float, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Whether each item is drawn: all items of random images, until they are the given share of all items."""
    images, which, sizes = np.unique(image, return_inverse=True, return_counts=True)
    order = rng.permutation(len(images))
    before = np.zeros(len(images))
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    taken: Bool[np.ndarray, "n"] = (before < share * len(image) * (1 - 1e-9))[which]
    return taken


def _even_groups(run: Int64[np.ndarray, "n"], most: int) -> Int64[np.ndarray, "n"]:
    """The number of each item's group: runs are cut into the fewest even groups of at most ``most`` items."""
    sizes = np.unique(run, return_counts=True)[1]
    groups = -(-sizes // most)
    nth = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    per_group = np.repeat(sizes // groups, groups) + (nth < np.repeat(sizes % groups, groups))
    return np.repeat(np.arange(len(per_group)), per_group)


def _draw_kinds(
    deck: SamplerInput, items: Int64[np.ndarray, "n"], group: Int64[np.ndarray, "n"], number: int
) -> Int64[np.ndarray, "n"]:
    """A kind for each group, drawn by the weights of the kinds that its items can be used for."""
    first = np.unique(group, return_index=True)[1]
    weights = deck.weights[:, None] * deck.uses[:, items[first]]
    below = np.cumsum(weights / weights.sum(axis=0), axis=0)
    draws = deck.rng(WAYS, number).random(len(first))
    # the first kind whose cumulated share exceeds the draw; rounding must not select a kind without weight
    last = len(weights) - 1 - (weights[::-1] > 0).argmax(axis=0)
    kind: Int64[np.ndarray, "n"] = np.minimum((below <= draws).sum(axis=0), last)[group]
    return kind


def _draw_points(
    deck: SamplerInput, items: Int64[np.ndarray, "n"], kind: Int64[np.ndarray, "n"], number: int
) -> Int64[np.ndarray, "n"]:
    """The number of points per object for each item: a random number, or as many as the budget has room for."""
    settings, rng = deck.asked, deck.rng(POINTS, number)
    counts = np.clip(np.rint(rng.normal(settings.mean, settings.deviation, len(items))), settings.least, settings.most)
    counts[rng.random(len(items)) < settings.single] = 1
    per_point = deck.per_point[kind, items]
    room = (deck.capacity - deck.fixed[kind, items]) // np.maximum(per_point, 1)
    return np.where(per_point > 0, np.minimum(counts, room), 0).astype(np.int64)


def _conversation_starts(
    run: Int64[np.ndarray, "n"],
    kind: Int64[np.ndarray, "n"],
    group: Int64[np.ndarray, "n"],
    cost: Int64[np.ndarray, "n"],
    deck: SamplerInput,
) -> list[int]:
    """The first index of each conversation, and the end of the last.

    A group is one conversation if it fits. Otherwise its remaining items start the next conversation, which further
    groups of the same image and kind join, until a conversation ends with the end of a group.
    """
    starts, total, at_group_start, previous = list[int](), 0, True, (-1, -1, -1)
    for index, (*key, price) in enumerate(np.stack([run, kind, group, cost], axis=1).tolist()):
        new_group = tuple(key) != previous
        new_conversation = new_group and (at_group_start or tuple(key[:2]) != previous[:2])
        if new_conversation or total + price > deck.capacity or index - starts[-1] == deck.per_image:
            starts.append(index)
            total, at_group_start = 0, new_group
        total, previous = total + price, (key[0], key[1], key[2])
    return [*starts, len(run)]


def _shuffle(
    starts: list[int],
    items: Int64[np.ndarray, "n"],
    kind: Int64[np.ndarray, "n"],
    points: Int64[np.ndarray, "n"],
    cost: Int64[np.ndarray, "n"],
    deck: SamplerInput,
    number: int,
) -> Epoch:
    """The conversations in random order."""
    bounds = np.array(starts, dtype=np.int64)
    sizes, prices = np.diff(bounds), np.add.reduceat(cost, bounds[:-1])
    order = deck.rng(ORDER, number).permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    members = np.arange(len(items)) + np.repeat(bounds[:-1][order] - (ends - sizes[order]), sizes[order])
    return Epoch(kind[bounds[:-1]][order], np.concatenate([[0], ends]), items[members], points[members], prices[order])
