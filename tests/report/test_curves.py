import re

from sam4mllm.report.curves import Dot, Line, curves
from tests.report.parsed import Page

LINE = Line("<one>", [Dot(0, 0, "start"), Dot(1, 1, "end & all", 4)])


def circles(text):
    return [tuple(map(float, one)) for one in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', text)]


def test_the_unit_square_fills_the_figure_and_up_is_up():
    (left, low, _), (right, high, radius) = circles(curves("t", [LINE], ("x", "y")))
    assert (left, right) == (30, 292)
    assert low > high
    assert radius == 4


def test_two_lines_are_named_and_drawn_apart():
    drawn = curves("t", [LINE, Line("two", LINE.dots)], ("x", "y"))
    assert Page(drawn).text("li") == ["<one>", "two"]
    assert [len(re.findall(f'<g class="line{number}">', drawn)) for number in (0, 1)] == [1, 1]
    assert Page(curves("t", [LINE], ("x", "y"))).text("li") == []


def test_the_diagonal_is_drawn_where_it_means_something():
    assert ['class="even"' in curves("t", [LINE], ("x", "y"), diagonal=each) for each in (True, False)] == [True, False]


def test_words_are_escaped():
    page = Page(curves("<t>", [LINE], ("<x>", "y")))
    assert page.text("figcaption") == ["<t>"]
    assert "<one>, end & all" in page.text("title")
    assert "<x> → y ↑" in page.text("text")


def test_no_dots_are_no_figure():
    assert curves("t", [Line("one", [])], ("x", "y")) == ""
