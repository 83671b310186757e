import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.segmenters.grouping import group_prompts

prompt_values = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100), st.lists(st.booleans(), max_size=3)), max_size=12
)


@given(prompt_values, st.integers(1, 5))
def test_each_prompt_is_in_exactly_one_group(prompt_values, max_prompts):
    prompts = [
        Prompt(Box(x, y, x + 5, y + 3), tuple(Point(x + i, y, sign) for i, sign in enumerate(signs)))
        for x, y, signs in prompt_values
    ]
    rows = []
    for group in group_prompts(prompts, (1.0, 1.0), max_prompts):
        assert 1 <= len(group.rows) <= max_prompts
        assert group.points.shape == (*group.labels.shape, 2)
        assert group.boxes.shape == (len(group.rows), 4)
        for row, labels in zip(group.rows, group.labels, strict=True):
            assert [point.positive for point in prompts[row].points] == labels.astype(bool).tolist()
        rows += group.rows
    assert sorted(rows) == list(range(len(prompts)))


def test_places_become_pixel_indices_of_the_model():
    """A 10 x 20 image at 40 x 20: a pixel index is the scaled place minus half a pixel of the model."""
    prompt = Prompt(Box(0, 0, 10, 20), (Point(0.5, 19.5), Point(2.0, 3.0, positive=False)))
    [group] = group_prompts([prompt], (4.0, 1.0), 8)
    assert group.boxes.tolist() == [[-0.5, -0.5, 39.5, 19.5]]
    assert group.points.tolist() == [[[1.5, 19.0], [7.5, 2.5]]]
    assert group.labels.tolist() == [[1, 0]]
    assert group.boxes.dtype == group.points.dtype == np.float32


def test_prompts_with_and_without_a_box_are_in_different_groups():
    points = (Point(0.5, 19.5), Point(2.0, 3.0, positive=False))
    first, second = group_prompts([Prompt(Box(0, 0, 10, 20), points), Prompt(None, points)], (4.0, 1.0), 8)
    assert (first.rows, second.rows) == ((0,), (1,))
    assert second.boxes is None
    assert second.points.tolist() == first.points.tolist()


def test_a_box_alone_has_no_points():
    [group] = group_prompts([Prompt(Box(0, 0, 1, 1))] * 2, (1.0, 1.0), 8)
    assert group.points.shape == (2, 0, 2)
