import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt, bounding_box, box_iou, iou, is_on_mask, union


def test_the_box_of_a_one_pixel_mask_has_one_pixel():
    mask = np.zeros((5, 7), dtype=bool)
    mask[2, 4] = True
    assert bounding_box(mask) == Box(4.0, 2.0, 5.0, 3.0)


def test_an_empty_mask_has_no_box():
    assert bounding_box(np.zeros((5, 7), dtype=bool)) is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(Box(0, 0, 2, 2), Box(0, 0, 2, 2), 1.0, id="same"),
        pytest.param(Box(0, 0, 2, 2), Box(1, 0, 3, 2), 1 / 3, id="half overlapping"),
        pytest.param(Box(0, 0, 2, 2), Box(2, 0, 4, 2), 0.0, id="touching is not overlapping"),
        pytest.param(Box(1, 1, 1, 1), Box(1, 1, 1, 1), 0.0, id="both empty"),
    ],
)
def test_box_iou(a, b, expected):
    assert box_iou(a, b) == pytest.approx(expected)


def test_two_empty_masks_have_an_iou_of_1():
    empty = np.zeros((3, 3), dtype=bool)
    assert iou(empty, empty) == 1.0


def test_a_union_of_overlapping_masks_is_a_mask():
    diagonal, full = np.eye(3, dtype=bool), np.ones((3, 3), dtype=bool)
    assert union([diagonal, full], 3, 3).dtype == bool
    assert not union([], 3, 3).any()


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(1.0, 0.0, True), (1.999, 0.999, True), (2.0, 0.0, False), (0.999, 0.0, False), (-0.5, 0.5, False), (9, 9, False)],
)
def test_a_position_is_on_a_mask_if_its_pixel_is(x, y, expected):
    mask = np.zeros((2, 3), dtype=bool)
    mask[0, 1] = True
    assert is_on_mask(mask, x, y) is expected


@pytest.mark.parametrize("edges", [(2, 0, 1, 1), (0, 2, 1, 1), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1)])
def test_a_box_out_of_order_or_not_finite_is_refused(edges):
    with pytest.raises(ValueError, match="a box needs"):
        Box(*edges)


@given(st.integers(1, 8000), st.integers(1, 8000), st.floats(0, 1), st.floats(0, 1))
def test_every_frame_converts_a_position_there_and_back(width, height, fx, fy):
    x, y = fx * width, fy * height
    for frame in (
        Frame.unscaled(width, height),
        Frame.padded(width, height),
        Frame.resized(width, height, (28.0 * 11, 28.0 * 7)),
    ):
        assert frame.to_image(*frame.to_model(x, y)) == pytest.approx((x, y), abs=1e-6)
        assert 0 <= frame.to_model(x, y)[0] <= frame.canvas[0] + 1e-6


def test_a_prompt_without_a_box_has_the_extent_of_its_positive_points():
    prompt = Prompt(None, (Point(3, 4), Point(9, 1), Point(50, 50, positive=False)))
    assert prompt.extent == Box(3, 1, 9, 4)
    assert Prompt(Box(0, 0, 2, 2), prompt.points).extent == Box(0, 0, 2, 2)


@pytest.mark.parametrize("points", [(), (Point(1, 1, positive=False),)], ids=["no points", "negative points only"])
def test_a_prompt_without_a_box_needs_a_positive_point(points):
    with pytest.raises(ValueError, match="a box or a positive point"):
        Prompt(None, points)
