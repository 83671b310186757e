import numpy as np
import pytest

from sam4mllm.report.panels import MAX_SIDE, check_size, make_panel


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 20, (20, 10)), (480, 960, (480, 240)), (3000, 2, (1, 480))],
    ids=["small", "large", "a line"],
)
def test_a_panel_is_shrunk_to_at_least_one_pixel(height, width, expected):
    panel = make_panel(np.zeros((height, width, 3), np.uint8), "word")
    assert (panel.width, panel.height) == expected
    assert max(panel.width, panel.height) <= MAX_SIDE
    assert panel.jpeg.startswith(b"\xff\xd8")


def test_an_image_of_another_size_is_its_error():
    image = np.zeros((4, 6, 3), np.uint8)
    assert check_size(image, 6, 4) is image
    assert check_size(image, 4, 6) == "the image is 6 x 4 pixels, the sample expects 4 x 6"
