import pytest

from sam4mllm.report.figures import (
    Curve,
    CurveChart,
    CurvePoint,
    Histogram,
    HistogramBar,
    StackedBars,
    count_in_parts,
    count_numbers,
)
from sam4mllm.report.html import render_page
from tests.report.parsed import Page

CURVE = Curve("<one>", [CurvePoint(0, 0, "start"), CurvePoint(1, 1, "end & all", 4)])


def render(chart):
    return Page(render_page("", [], [chart]))


def attributes_of(page, wanted, **classes):
    return [attributes for tag, attributes in page.tags if tag == wanted and classes.items() <= attributes.items()]


@pytest.mark.parametrize(
    ("values", "expected"), [([], [0, 0, 0, 0]), ([0, 0.24, 0.25, 1], [2, 1, 0, 1]), ([0.5, 0.75], [0, 0, 1, 1])]
)
def test_shares_are_counted_in_equal_parts(values, expected):
    assert [bar.count for bar in count_in_parts(values, 4)] == expected


@pytest.mark.parametrize(
    ("values", "expected", "last"),
    [([], [0], "0"), ([2, 0, 2], [1, 0, 2], "2"), ([0, 23, 24, 90], [1, *[0] * 22, 3], "23 or more")],
)
def test_numbers_are_counted_one_by_one(values, expected, last):
    assert [bar.count for bar in count_numbers(values)] == expected
    assert count_numbers(values)[-1].label == last


def test_bar_heights_are_proportional_and_a_count_of_1_is_visible():
    bars = [HistogramBar("a", 0), HistogramBar("b", 1), HistogramBar("c", 500), HistogramBar("d", 1000)]
    page = render(Histogram("t", bars, ("a", "d")))
    heights = [float(rect["height"]) for rect in attributes_of(page, "rect")]
    assert heights == [0, 1, 48, 96]
    assert page.text("title") == ["a: 0", "b: 1", "c: 500", "d: 1,000"]
    assert page.text("text") == ["a", "d", "1,000"]


def test_an_empty_histogram_has_no_largest_count():
    page = render(Histogram("t", [HistogramBar("a", 0)], ("0", "1")))
    assert page.text("text") == ["0", "1"]
    assert attributes_of(page, "svg")[0]["aria-label"] == "t: nothing"


def test_the_unit_square_fills_the_chart_and_up_is_up():
    first, last = attributes_of(render(CurveChart("t", [CURVE], ("x", "y"))), "circle")
    assert (first["cx"], last["cx"]) == ("30", "292")
    assert float(first["cy"]) > float(last["cy"])
    assert last["r"] == "4"


def test_two_curves_are_named_and_drawn_apart():
    page = render(CurveChart("t", [CURVE, Curve("two", CURVE.points)], ("x", "y")))
    assert page.text("li") == ["<one>", "two"]
    assert [group["class"] for group in attributes_of(page, "g")] == ["curve0", "curve1"]
    assert render(CurveChart("t", [CURVE], ("x", "y"))).text("li") == []


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_diagonal_is_drawn_on_request(diagonal):
    lines = attributes_of(render(CurveChart("t", [CURVE], ("x", "y"), diagonal)), "line", **{"class": "diagonal"})
    assert len(lines) == diagonal


def test_texts_of_curves_are_escaped():
    page = render(CurveChart("<t>", [CURVE], ("<x>", "y")))
    assert page.text("figcaption") == ["<t>"]
    assert "<one>, end & all" in page.text("title")
    assert "<x> → y ↑" in page.text("text")


def parts_of(page):
    """Kind, left end and width of each part."""
    return [
        (int(rect["class"].removeprefix("kind")), float(rect["x"]), float(rect["width"]))
        for rect in attributes_of(page, "rect")
    ]


def test_parts_are_placed_end_to_end_and_negative_parts_to_the_left():
    page = render(StackedBars("t", ["a", "b", "c", "d"], {"all": [0.2, -0.05, 0.1, -0.01]}))
    assert parts_of(page) == [(0, 0, 20), (1, -5, 5), (2, 20, 10), (3, -6, 1)]
    assert attributes_of(page, "svg")[0]["viewbox"] == "-6.0 0 36.0 10"
    assert "24.00" in page.text("span")


def test_rows_share_one_scale():
    page = render(StackedBars("t", ["a", "b"], {"all": [0.2, 0], "small": [0.1, -0.1]}))
    assert {svg["viewbox"] for svg in attributes_of(page, "svg")} == {"-10.0 0 30.0 10"}


def test_the_legend_names_the_kinds_that_occur():
    page = render(StackedBars("t", ["a", "<b>", "c"], {"all": [0, 0.1, 0]}))
    assert page.text("li") == ["<b>"]
    assert "all, <b>: +10.00" in page.text("title")


def test_no_loss_is_a_bar_without_parts():
    page = render(StackedBars("t", ["a"], {"all": [0]}))
    assert parts_of(page) == []
    assert attributes_of(page, "svg")[0]["aria-label"] == "all: nothing"
