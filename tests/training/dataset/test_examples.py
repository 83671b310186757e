import numpy as np
import pytest

from sam4mllm.geometry.prompts import Frame, is_on_mask
from sam4mllm.language.dialects import DIALECTS, dialect
from sam4mllm.training.dataset.examples import draw_points
from sam4mllm.training.dataset.mixture import PointSampling
from tests.teaching import HEIGHT, WIDTH, disc

MASK, FRAME = disc(10), Frame.unscaled(WIDTH, HEIGHT)
BOX = MASK.box


def points_of(sampling: PointSampling, n: int = 400, name: str = "sam4mllm", seed: int = 0):
    return draw_points(MASK.mask, BOX, n, sampling, dialect(name), FRAME, np.random.default_rng(seed))


def off_edge(points) -> np.ndarray:
    """The distances of points from a disc's circle."""
    return np.array([abs(np.hypot(point.x - 25, point.y - 25) - 15) for point in points])


@pytest.mark.parametrize("hard", [0.0, 0.5, 1.0])
def test_the_hard_share_of_points_is_near_the_edge_on_both_sides(hard):
    near = 0.05  # of a diagonal of 42 pixels: 2.1
    points = points_of(PointSampling(hard=hard, near=near))
    close = off_edge(points) < near * np.hypot(30, 30) + 1  # one pixel, the resolution of the mask
    by_chance = np.mean(off_edge(points_of(PointSampling(hard=0))) < near * np.hypot(30, 30) + 1)
    assert close.mean() == pytest.approx(hard + (1 - hard) * by_chance, abs=0.06)
    if hard == 1:
        assert np.mean([point.positive for point in points]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("n", [0, 1, 2, 20])
def test_n_points_are_drawn_inside_the_box(n):
    for seed in range(20):
        points = points_of(PointSampling(), n, seed=seed)
        assert len(points) == n
        assert all(BOX.x0 <= point.x <= BOX.x1 and BOX.y0 <= point.y <= BOX.y1 for point in points)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_label_belongs_to_the_place_after_rounding(name):
    notation = dialect(name)
    for point in points_of(PointSampling(hard=1), name=name):
        [place] = notation.places(notation.write_point(point, FRAME), FRAME)
        assert is_on_mask(MASK.mask, place.value.x, place.value.y) is point.positive
