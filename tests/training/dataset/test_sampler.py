"""Invariants of an epoch, with random items, kinds and costs."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.training.dataset.mixture import PointSampling
from sam4mllm.training.dataset.sampler import Costs, SamplerInput, make_epoch

PLENTY = 10**9
WEIGHTS = np.array([3.0, 1.0, 0.0])


def make_inputs(items: int = 300, seed: int = 0, **changes) -> SamplerInput:
    """Items of two sources, 40 images and three kinds: one without points, one with points, and one without weight."""
    rng = np.random.default_rng([seed, 99])
    source = (np.arange(items) >= items * 2 // 3).astype(np.int64)
    uses = np.stack([rng.random(items) < 0.9, rng.random(items) < 0.95, np.zeros(items, dtype=bool)])
    picture = source * 1000 + rng.integers(40, size=items)
    none = np.zeros(items, dtype=np.int64)
    costs = {
        "fixed": np.stack([rng.integers(20, 60, size=items), rng.integers(20, 40, size=items), none]),
        "per_point": np.stack([none, rng.integers(5, 9, size=items), none]),
        "capacity": PLENTY,
    }
    costs |= {name: changes.pop(name) for name in costs.keys() & changes.keys()}
    plain = SamplerInput(source, picture, uses, np.array([1.0, 1.0]), WEIGHTS, Costs(**costs), 4, PointSampling(), seed)
    return replace(plain, **changes)


def rows(epoch) -> list[list[int]]:
    return [part.tolist() for part in np.split(epoch.items, epoch.starts[1:-1])]


INPUTS = {
    "plenty of room": {},
    "some room": {"capacity": 200},
    "little room": {"capacity": 100},
    "one at a time": {"per_image": 1},
    "many at a time": {"per_image": 50, "capacity": 300},
}


@pytest.mark.parametrize("changes", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("seed", range(3))
def test_an_epoch_holds_each_usable_item_once_within_the_bounds(changes, seed):
    inputs = make_inputs(seed=seed, **changes)
    usable = np.flatnonzero(inputs.uses.any(axis=0)).tolist()
    for number in range(3):
        epoch = make_epoch(inputs, number)
        assert sorted(epoch.items.tolist()) == usable
        assert epoch.cost.max() <= inputs.costs.capacity
        for row, (items, kind) in enumerate(zip(rows(epoch), epoch.kind, strict=True)):
            assert len({inputs.image[item] for item in items}) == 1 <= len(items) <= inputs.per_image
            assert inputs.uses[kind, items].all()
            points = epoch.points[epoch.starts[row] : epoch.starts[row + 1]]
            assert (
                epoch.cost[row]
                == (inputs.costs.fixed[kind, items] + points * inputs.costs.per_point[kind, items]).sum()
            )
            assert (points > 0).all() == (kind == 1)


def test_an_epoch_depends_on_its_number_and_the_seed():
    inputs = make_inputs(capacity=200)
    first, again, second = (make_epoch(inputs, number) for number in (0, 0, 1))
    third = make_epoch(replace(inputs, seed=1), 0)
    assert rows(first) == rows(again)
    assert first.points.tolist() == again.points.tolist()
    assert rows(first) != rows(second) != rows(third) != rows(first)


@pytest.mark.parametrize("most", [1, 2, 4, 20])
def test_without_a_tight_budget_an_image_is_cut_into_the_fewest_even_groups(most):
    inputs = make_inputs(uses=np.ones((3, 300), dtype=bool), per_image=most)
    sizes = defaultdict(list)
    for items in rows(make_epoch(inputs, 0)):
        sizes[inputs.image[items[0]]].append(len(items))
    for picture, group_sizes in sizes.items():
        count = int((inputs.image == picture).sum())
        assert sum(group_sizes) == count
        assert len(group_sizes) == -(-count // most)
        assert max(group_sizes) - min(group_sizes) <= 1


def test_kinds_are_drawn_by_their_weights_for_any_budget():
    for capacity in (PLENTY, 150):
        inputs = make_inputs(items=6000, uses=np.ones((3, 6000), dtype=bool), capacity=capacity)
        epoch = make_epoch(inputs, 0)
        asked = Counter(np.repeat(epoch.kind, np.diff(epoch.starts)).tolist())
        assert asked[0] / 6000 == pytest.approx(0.75, abs=0.03)
        assert set(asked) == {0, 1}


def test_items_that_do_not_fit_move_to_the_next_conversation_of_their_image_and_kind():
    """Ten items of an image with room for three: four conversations in all, instead of two for each group of four."""
    same, zeros = np.full((3, 10), 30), np.zeros(10, dtype=np.int64)
    inputs = make_inputs(
        items=10,
        source=zeros,
        image=zeros,
        uses=np.array([[True] * 10, [False] * 10, [False] * 10]),
        passes=np.array([1.0]),
        fixed=same,
        per_point=0 * same,
        capacity=90,
    )
    assert sorted(map(len, rows(make_epoch(inputs, 0)))) == [1, 3, 3, 3]


@pytest.mark.parametrize(("weight", "least", "most"), [(0.0, 0, 0), (0.2, 0, 1), (1.0, 1, 1), (1.5, 1, 2), (2.0, 2, 2)])
def test_an_epoch_uses_a_source_as_often_as_its_weight_says(weight, least, most):
    inputs = make_inputs(passes=np.array([1.0, weight]), uses=np.ones((3, 300), dtype=bool))
    sets = []
    for number in range(3):
        epoch = make_epoch(inputs, number)
        counts = Counter(epoch.items.tolist())
        second = [counts[item] for item in np.flatnonzero(inputs.source == 1).tolist()]
        assert all(counts[item] == 1 for item in np.flatnonzero(inputs.source == 0).tolist())
        assert {*second} <= {least, most}
        largest = np.unique(inputs.image[inputs.source == 1], return_counts=True)[1].max()
        assert weight * 100 <= sum(second) < weight * 100 + largest
        assert all(len(set(items)) == len(items) for items in rows(epoch))
        sets.append(second)
    assert (sets[0] != sets[1]) == (weight % 1 > 0)


def test_the_number_of_points_is_drawn_and_limited_by_the_budget():
    uses = np.array([[False] * 4000, [True] * 4000, [False] * 4000])
    fixed, per_point = np.full((3, 4000), 50), np.array([[0], [10], [0]]).repeat(4000, axis=1)
    inputs = make_inputs(items=4000, uses=uses, fixed=fixed, per_point=per_point)
    drawn, tight = (
        make_epoch(inputs, 0),
        make_epoch(replace(inputs, costs=replace(inputs.costs, capacity=50 + 10 * 12)), 0),
    )
    assert (drawn.points.min(), drawn.points.max()) == (1, 20)
    by_item = [dict(zip(epoch.items.tolist(), epoch.points.tolist(), strict=True)) for epoch in (drawn, tight)]
    assert {item: min(points, 12) for item, points in by_item[0].items()} == by_item[1]
    single = make_epoch(replace(inputs, asked=PointSampling(mean=8, deviation=0, single=0.25)), 0)
    assert set(single.points.tolist()) == {1, 8}
    assert (single.points == 1).mean() == pytest.approx(0.25, abs=0.03)
