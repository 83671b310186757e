import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt, bounding_box
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.segmenters.box import BoxSegmenter, fill


def segment_boxes(*boxes: Box, height: int = 6, width: int = 8):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    return [scored.mask for scored in BoxSegmenter().embed(image).segment([Prompt(box) for box in boxes])]


def test_the_segmenter_satisfies_the_protocol():
    assert isinstance(BoxSegmenter(), Segmenter)
    assert isinstance(BoxSegmenter().embed(np.zeros((2, 3, 3), dtype=np.uint8)), Scene)


@given(st.integers(0, 7), st.integers(0, 5), st.integers(1, 8), st.integers(1, 6))
def test_a_filled_box_on_the_pixel_grid_has_the_same_box(x, y, across, down):
    box = Box(float(x), float(y), float(min(x + across, 8)), float(min(y + down, 6)))
    assert bounding_box(segment_boxes(box)[0]) == box


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        pytest.param(Box(0, 0, 8, 6), 48, id="the whole picture"),
        pytest.param(Box(-9, -9, 99, 99), 48, id="beyond the picture"),
        pytest.param(Box(2.5, 1.5, 3.5, 2.5), 1, id="a centre on the left edge is inside, on the right one outside"),
        pytest.param(Box(2.6, 1.6, 3.4, 2.4), 0, id="between centres"),
        pytest.param(Box(3, 3, 3, 3), 0, id="no extent"),
        pytest.param(Box(20, 20, 30, 30), 0, id="off the picture"),
    ],
)
def test_a_pixel_is_inside_if_its_centre_is(box, pixels):
    assert int(segment_boxes(box)[0].sum()) == pixels == int(fill(box, 6, 8).sum())


def test_boxes_keep_their_order():
    first, second = segment_boxes(Box(0, 0, 1, 1), Box(7, 5, 8, 6))
    assert first[0, 0]
    assert second[5, 7]


def test_points_are_refused_and_not_dropped():
    scene = BoxSegmenter().embed(np.zeros((6, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="takes no points"):
        scene.segment([Prompt(Box(0, 0, 2, 2)), Prompt(Box(0, 0, 2, 2), (Point(1, 1),))])
