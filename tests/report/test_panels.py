import numpy as np
import pytest

from sam4mllm.images.files import write_png
from sam4mllm.report.panels import SIDE, checked, panel, picture_or_why


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 20, (20, 10)), (480, 960, (480, 240)), (3000, 2, (1, 480))],
    ids=["small", "large", "a line"],
)
def test_a_panel_is_shrunk_and_never_to_nothing(height, width, expected):
    made = panel(np.zeros((height, width, 3), np.uint8), "word")
    assert (made.width, made.height) == expected
    assert max(made.width, made.height) <= SIDE
    assert made.jpeg.startswith(b"\xff\xd8")


def test_a_picture_or_why_there_is_none(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    assert picture_or_why(tmp_path / "a.png").shape == (4, 6, 3)
    assert "no such file" in picture_or_why(tmp_path / "b.png")


def test_a_picture_of_another_size_says_so():
    image = np.zeros((4, 6, 3), np.uint8)
    assert checked(image, 6, 4) is image
    assert checked(image, 4, 6) == "the picture is 6 x 4 pixels, the sample says 4 x 6"
