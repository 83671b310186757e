import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap, Ratio, differences, group_indices, intervals


def ratio(over, under, epsilon=0.0):
    return Ratio(np.array(over), np.array(under), epsilon)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (ratio([30, 0], [60, 40]), 0.3),
        (ratio([0], [0]), math.nan),
        (ratio([0], [0], 1e-10), 0.0),
        (ratio([0.5, 1.0], [1, 1]), 0.75),
        (ratio([2**53, 1], [2**53 + 1, 0]), 1.0),
    ],
)
def test_a_ratio_is_one_sum_over_another(given, expected):
    assert given.value == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.randoms())
def test_a_ratio_is_independent_of_the_order_of_its_terms(terms, shuffler):
    before = ratio(terms, [1] * len(terms)).value
    shuffler.shuffle(terms)
    assert ratio(terms, [1] * len(terms)).value == before


def test_groups_are_numbered_in_order():
    assert group_indices(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def plainly(over, under, groups, draws, seed):
    """The same bootstrap, written by its definition, one draw at a time."""
    rng, many = np.random.default_rng(seed), int(groups.max()) + 1
    values = []
    for picked in rng.integers(many, size=(draws, many)):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in picked])
        values.append(over[rows].sum() / under[rows].sum())
    return tuple(np.percentile(values, (2.5, 97.5)))


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_intervals_match_a_bootstrap_written_by_definition(at_once, monkeypatch):
    monkeypatch.setattr("sam4mllm.evaluation.bootstrap._BLOCK_SIZE", at_once)
    rng = np.random.default_rng(3)
    over, under, groups = rng.integers(0, 50, 25), rng.integers(50, 99, 25), np.arange(25) // 3
    found = intervals({"it": Ratio(over, under)}, groups, Bootstrap(200, 7))["it"]
    assert found == pytest.approx(plainly(over, under, groups, 200, 7))


def test_an_interval_has_about_the_width_of_the_normal_approximation():
    """A share of .3 over 400 images: 1.96 standard errors to each side."""
    hits = np.arange(400) % 10 < 3
    low, high = intervals({"it": Ratio(hits * 1, np.ones(400))}, np.arange(400), Bootstrap(4000))["it"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.3 * 0.7 / 400), rel=0.1)


def test_more_expressions_of_the_same_images_do_not_narrow_the_interval():
    hits = np.arange(100) % 10 < 3
    once, thrice = (
        intervals({"it": Ratio(np.repeat(hits, n) * 1, np.ones(100 * n))}, np.repeat(np.arange(100), n), Bootstrap())
        for n in (1, 3)
    )
    assert once["it"] == pytest.approx(thrice["it"])


def test_an_undefined_ratio_or_a_single_image_has_no_interval():
    groups = np.array([0, 1, 2])
    assert all(map(math.isnan, intervals({"it": ratio([0] * 3, [0] * 3)}, groups, Bootstrap(9))["it"]))
    assert all(map(math.isnan, intervals({"it": ratio([1] * 3, [1] * 3)}, np.zeros(3, int), Bootstrap(9))["it"]))


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    first = rng.random(300)
    one, two = (Ratio(values, np.ones(300)) for values in (first, first - 0.1))
    apart, low, high = differences({"it": one}, {"it": two}, np.arange(300), Bootstrap())["it"]
    assert (apart, low, high) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize("words", [{"draws": 0}, {"seed": -1}])
def test_invalid_bootstrap_settings_are_an_error(words):
    with pytest.raises(UserError, match="at least 1 draw"):
        Bootstrap(**words)
