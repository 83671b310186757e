import re

from sam4mllm.report.bars import stacked
from tests.report.parsed import Page


def rects(text):
    """Kind, left end and width of each part."""
    found = re.findall(r'<rect class="kind(\d)" x="([-\d.]+)" y="0" width="([\d.]+)"', text)
    return [(int(kind), float(x), float(width)) for kind, x, width in found]


def test_parts_stand_end_to_end_and_those_below_zero_to_the_left():
    drawn = stacked("t", ["a", "b", "c", "d"], {"all": [0.2, -0.05, 0.1, -0.01]})
    assert rects(drawn) == [(0, 0, 20), (1, -5, 5), (2, 20, 10), (3, -6, 1)]
    assert 'viewBox="-6.0000 0 36.0000 10"' in drawn
    assert "24.00" in Page(drawn).text("span")


def test_rows_share_one_scale():
    drawn = stacked("t", ["a", "b"], {"all": [0.2, 0], "small": [0.1, -0.1]})
    assert set(re.findall(r'viewBox="([^"]*)"', drawn)) == {"-10.0000 0 30.0000 10"}


def test_the_legend_names_what_is_there():
    drawn = stacked("t", ["a", "<b>", "c"], {"all": [0, 0.1, 0]})
    assert Page(drawn).text("li") == ["<b>"]
    assert "all, &lt;b&gt;: +10.00" in drawn


def test_nothing_lost_is_a_bar_without_parts():
    drawn = stacked("t", ["a"], {"all": [0]})
    assert rects(drawn) == []
    assert 'aria-label="all: nothing"' in drawn
