"""Groups the items of an epoch into conversations; the result depends only on the seed and the epoch's number.

The weight of a source is the number of times that an epoch uses it. The items of an image are shuffled and cut into
groups of even size, and a kind is drawn for each group. Items that exceed a conversation's budget move to the image's
next conversation of that kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int64

from sam4mllm.training.dataset.mixture import PointSampling

DRAWN, GROUPS, WAYS, POINTS, ORDER = range(5)  # separate random streams, so that a change in one does not shift another
Integers: TypeAlias = Int64[np.ndarray, "n"]


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Upper bounds on the tokens of each item in each kind of conversation.

    Attributes:
        fixed: the tokens without those of its points.
        per_point: the tokens of one more point on each of its objects; 0 for kinds without points.
        capacity: the tokens that fit in one conversation.
    """

    fixed: Int64[np.ndarray, "kinds items"]
    per_point: Int64[np.ndarray, "kinds items"]
    capacity: int

    @property
    def too_long(self) -> Bool[np.ndarray, "kinds items"]:
        """The items that exceed the budget on their own, even with one point per object."""
        over: Bool[np.ndarray, "kinds items"] = self.fixed + self.per_point > self.capacity
        return over


@dataclass(frozen=True, slots=True, eq=False)
class SamplerInput:
    """The items that epochs are drawn from, with their costs, and the settings of the draw.

    Attributes:
        source: the number of each item's source.
        image: the number of each item's image.
        uses: whether each item can be used for each kind.
        passes: how often an epoch uses each source, 0 or more.
        weights: the weights of the kinds.
        costs: the costs of the items, and the largest cost of a conversation.
        per_image: the most items in a conversation.
        asked: the numbers of points in PQPP's questions.
        seed: the seed of all random draws.
    """

    source: Int64[np.ndarray, "items"]
    image: Int64[np.ndarray, "items"]
    uses: Bool[np.ndarray, "kinds items"]
    passes: Float[np.ndarray, "sources"]
    weights: Float[np.ndarray, "kinds"]
    costs: Costs
    per_image: int
    asked: PointSampling
    seed: int

    def rng(self, stream: int, epoch: int) -> np.random.Generator:
        """The random generator of a stream in an epoch."""
        return np.random.default_rng([self.seed, stream, epoch])


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The conversations of an epoch in order; conversation c holds members ``starts[c]`` to ``starts[c + 1]``.

    Attributes:
        kind: the kind of each conversation.
        starts: the first member of each conversation, and the end of the last conversation.
        items: the item of each member.
        points: the number of points per object in each member's questions.
        cost: the cost of each conversation.
    """

    kind: Int64[np.ndarray, "rows"]
    starts: Int64[np.ndarray, "bounds"]
    items: Int64[np.ndarray, "members"]
    points: Int64[np.ndarray, "members"]
    cost: Int64[np.ndarray, "rows"]

    def __len__(self) -> int:
        return len(self.kind)


def make_epoch(inputs: SamplerInput, number: int) -> Epoch:
    """The conversations of epoch ``number``; each source's weight is the number of times that its items are used."""
    items, run = _draw_items(inputs, number)
    order = np.lexsort((inputs.rng(GROUPS, number).random(len(items)), run))
    items, run = items[order], run[order]
    group = _even_groups(run, inputs.per_image)
    kind = _draw_kinds(inputs, items, group, number)
    points = _draw_points(inputs, items, kind, number)
    cost = inputs.costs.fixed[kind, items] + points * inputs.costs.per_point[kind, items]
    order = np.lexsort((group, kind, run))  # the groups of an image that have the same kind are adjacent
    starts = _conversation_starts(np.stack([run, kind, group, cost], axis=1)[order], inputs)
    cost = np.add.reduceat(cost[order], starts[:-1])
    epoch = Epoch(kind[order][starts[:-1]], starts, items[order], points[order], cost)
    return _shuffle(epoch, inputs.rng(ORDER, number))


def _draw_items(inputs: SamplerInput, number: int) -> tuple[Integers, Integers]:
    """The items of an epoch, and the run of each item. A run's items have the same image, pass and usable kinds."""
    rng, usable = inputs.rng(DRAWN, number), inputs.uses.any(axis=0)
    chosen, passes = list[Integers](), list[Integers]()
    for source, weight in enumerate(inputs.passes.tolist()):
        members = np.flatnonzero(usable & (inputs.source == source))
        is_drawn = _draw_share(inputs.image[members], weight % 1, rng)
        for step, pass_items in enumerate([members] * math.floor(weight) + [members[is_drawn]]):
            chosen.append(pass_items)
            passes.append(np.full(len(pass_items), step))
    items = np.concatenate(chosen)
    pattern = np.packbits(inputs.uses[:, items], axis=0).astype(np.int64)[0]
    parts = np.stack([inputs.image[items], np.concatenate(passes), pattern])
    return items, np.unique(parts, axis=1, return_inverse=True)[1].reshape(-1)


def _draw_share(image: Integers, share: float, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Whether each item is drawn: all items of random images, until they are the given share of all items."""
    images, which, sizes = np.unique(image, return_inverse=True, return_counts=True)
    order = rng.permutation(len(images))
    before = np.zeros(len(images))
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    taken: Bool[np.ndarray, "n"] = (before < share * len(image) * (1 - 1e-9))[which]
    return taken


def _even_groups(run: Integers, most: int) -> Integers:
    """The number of each item's group: runs are cut into the fewest even groups of at most ``most`` items."""
    sizes = np.unique(run, return_counts=True)[1]
    groups = -(-sizes // most)
    nth = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    per_group = np.repeat(sizes // groups, groups) + (nth < np.repeat(sizes % groups, groups))
    return np.repeat(np.arange(len(per_group)), per_group)


def _draw_kinds(inputs: SamplerInput, items: Integers, group: Integers, number: int) -> Integers:
    """A kind for each group, drawn by the weights of the kinds that its items can be used for."""
    first = np.unique(group, return_index=True)[1]
    weights = inputs.weights[:, None] * inputs.uses[:, items[first]]
    below = np.cumsum(weights / weights.sum(axis=0), axis=0)
    draws = inputs.rng(WAYS, number).random(len(first))
    # the first kind with a cumulated share above the draw; rounding must not select a kind without weight
    last = len(weights) - 1 - (weights[::-1] > 0).argmax(axis=0)
    kind: Integers = np.minimum((below <= draws).sum(axis=0), last)[group]
    return kind


def _draw_points(inputs: SamplerInput, items: Integers, kind: Integers, number: int) -> Integers:
    """The number of points per object for each item: a random number, or as many as the budget has room for."""
    settings, rng = inputs.asked, inputs.rng(POINTS, number)
    counts = np.clip(np.rint(rng.normal(settings.mean, settings.deviation, len(items))), settings.least, settings.most)
    counts[rng.random(len(items)) < settings.single] = 1
    per_point = inputs.costs.per_point[kind, items]
    room = (inputs.costs.capacity - inputs.costs.fixed[kind, items]) // np.maximum(per_point, 1)
    return np.where(per_point > 0, np.minimum(counts, room), 0).astype(np.int64)


def _conversation_starts(members: Int64[np.ndarray, "n 4"], inputs: SamplerInput) -> Int64[np.ndarray, "bounds"]:
    """The first index of each conversation, and the end of the last.

    A group that fits is one conversation. If a group does not fit, its remaining items start the next conversation, and
    the following groups of the same image and kind are added to that one. This ends when a conversation starts with the
    first item of a group.

    Args:
        members: run, kind, group and cost of each item.
        inputs: the limits of a conversation.
    """
    starts, total, at_group_start, previous = list[int](), 0, True, (-1, -1, -1)
    for index, (*key, price) in enumerate(members.tolist()):
        new_group = tuple(key) != previous
        new_conversation = new_group and (at_group_start or tuple(key[:2]) != previous[:2])
        if new_conversation or total + price > inputs.costs.capacity or index - starts[-1] == inputs.per_image:
            starts.append(index)
            total, at_group_start = 0, new_group
        total, previous = total + price, (key[0], key[1], key[2])
    return np.array([*starts, len(members)], dtype=np.int64)


def _shuffle(epoch: Epoch, rng: np.random.Generator) -> Epoch:
    """The conversations in random order."""
    first, sizes = epoch.starts[:-1], np.diff(epoch.starts)
    order = rng.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    members = np.arange(len(epoch.items)) + np.repeat(first[order] - (ends - sizes[order]), sizes[order])
    starts = np.concatenate([[0], ends])
    return Epoch(epoch.kind[order], starts, epoch.items[members], epoch.points[members], epoch.cost[order])
