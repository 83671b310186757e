import re

import pytest

from sam4mllm.report.charts import Bar, histogram, numbers, shares


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], [0, 0, 0, 0]), ([0, 0.24, 0.25, 1], [2, 1, 0, 1]), ([0.5, 0.75], [0, 0, 1, 1])],
)
def test_shares_are_counted_in_equal_parts(values, expected):
    assert [bar.count for bar in shares(values, 4)] == expected


@pytest.mark.parametrize(
    ("values", "expected", "last"),
    [([], [0], "0"), ([2, 0, 2], [1, 0, 2], "2"), ([0, 23, 24, 90], [1, *[0] * 22, 3], "23 or more")],
)
def test_numbers_are_counted_one_by_one(values, expected, last):
    assert [bar.count for bar in numbers(values)] == expected
    assert numbers(values)[-1].label == last


def test_bars_are_as_high_as_their_counts_and_a_single_one_shows():
    drawn = histogram("t", [Bar("a", 0), Bar("b", 1), Bar("c", 500), Bar("d", 1000)], ("a", "d"))
    heights = [float(each) for each in re.findall(r'<rect[^>]* height="([\d.]+)"', drawn)]
    assert heights[0] == 0
    assert heights[1] == 1
    assert heights[3] == pytest.approx(2 * heights[2])
