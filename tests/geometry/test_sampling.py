import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam4mllm.geometry import sampling
from sam4mllm.geometry.prompts import Box, Point, bounding_box, is_on_mask


def box_from(x, y, width, height):
    return Box(x, y, x + width, y + height)


lengths = st.one_of(st.just(0.0), st.floats(0.001, 5000))
boxes = st.builds(box_from, st.floats(-1000, 5000), st.floats(-1000, 5000), lengths, lengths)
masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(bool, shape))
LAYOUTS = {
    "low_discrepancy": sampling.low_discrepancy,
    "interior_of_box": sampling.interior_of_box,
    "poisson_disk": lambda box, n: sampling.poisson_disk(box, n, np.random.default_rng(7)),
    "grid": lambda box, n: sampling.grid(box, n)[:n],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@given(boxes, st.integers(0, 20))
def test_every_layout_gives_the_same_n_points_inside_the_box_each_time(layout, box, n):
    points = LAYOUTS[layout](box, n)
    assert points.shape == (n, 2)
    assert ((points >= (box.x0, box.y0)) & (points <= (box.x1, box.y1))).all()
    assert np.array_equal(points, LAYOUTS[layout](box, n))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_grid_has_the_centres_of_its_cells_in_row_major_order(n):
    points = sampling.grid(Box(10, 20, 10 + 3 * n, 20 + 7 * n), n)
    expected = [(10 + 3 * (column + 0.5), 20 + 7 * (row + 0.5)) for row in range(n) for column in range(n)]
    assert np.allclose(points, np.array(expected).reshape(-1, 2))


@given(st.integers(1, 30), st.integers(0, 30))
def test_a_low_discrepancy_set_is_a_prefix_of_every_larger_one(k, more):
    box = Box(3, 4, 50, 60)
    assert np.array_equal(sampling.low_discrepancy(box, k + more)[:k], sampling.low_discrepancy(box, k))


@pytest.mark.parametrize("layout", [sampling.low_discrepancy, sampling.interior_of_box])
def test_the_first_point_is_the_centre(layout):
    assert layout(Box(2, 4, 10, 8), 1).tolist() == [[6, 6]]


def test_a_low_discrepancy_set_leaves_no_quarter_empty():
    points = sampling.low_discrepancy(Box(0, 0, 1, 1), 15)
    quarters = np.bincount((points >= 0.5) @ (1, 2), minlength=4)
    assert quarters.min() >= 3


@given(boxes)
def test_the_interior_of_a_box_is_its_inner_half(box):
    points = sampling.interior_of_box(box, 12)
    offsets = np.abs(points - ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    assert (offsets <= np.array([box.width, box.height]) / 4 + 1e-6).all()


@pytest.mark.parametrize("size", [(100.0, 100.0), (400.0, 25.0), (100.0, 0.0)])
@pytest.mark.parametrize("n", [10, 100])
def test_poisson_disk_points_keep_their_distance(size, n):
    points = sampling.poisson_disk(Box(5, 5, 5 + size[0], 5 + size[1]), n, np.random.default_rng(0))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)[~np.eye(n, dtype=bool)].min()
    # independent points would come as close as .5 / n of the side of one point's share of the box
    assert distance > 0.4 * max((size[0] * size[1] / n) ** 0.5, max(size) / n)


def test_different_seeds_give_different_poisson_points():
    first, second = (sampling.poisson_disk(Box(0, 0, 9, 9), 5, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.allclose(first, second)


@given(masks, st.integers(0, 20))
def test_interior_points_are_distinct_pixels_of_the_mask(mask, n):
    points = sampling.interior(mask, n)
    assert len(points) == min(n, mask.sum()) == len({tuple(point) for point in points})
    assert all(is_on_mask(mask, x, y) for x, y in points)
    assert (points % 1 == 0.5).all()
    assert np.array_equal(points, sampling.interior(mask, n))


@pytest.mark.parametrize("side", [3, 21])
def test_the_first_interior_point_is_the_centre_and_the_others_are_spread(side):
    mask = np.zeros((40, 60), dtype=bool)
    mask[5 : 5 + side, 30 : 30 + side] = True
    points = sampling.interior(mask, 5)
    assert points[0].tolist() == [30 + side / 2, 5 + side / 2]
    assert np.linalg.norm(points[1:] - points[0], axis=1).min() > side / 5


def test_the_image_border_is_an_edge():
    assert sampling.interior(np.ones((9, 9), dtype=bool), 1).tolist() == [[4.5, 4.5]]


def test_a_label_is_positive_if_the_pixel_belongs_to_the_mask():
    mask = np.array([[True, False]])
    points = np.array([[0.2, 0.9], [1.0, 0.5], [0.5, 1.5], [-0.5, 0.5]])
    labels = (True, False, False, False)
    assert sampling.label(points, mask) == tuple(
        Point(x, y, label) for (x, y), label in zip(points, labels, strict=True)
    )


near_boxes = st.builds(box_from, *[st.floats(0, 12)] * 4)


@given(masks, boxes | near_boxes, st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 0.5, 2.0]))
def test_clicks_are_distinct_pixel_centres_in_the_box_with_the_label_of_the_mask(mask, box, positive, negative, deep):
    points = sampling.clicks(mask, box, positive, negative, np.random.default_rng(0), deep)
    rows, columns = np.indices(mask.shape) + 0.5
    inside = (columns >= box.x0) & (columns < box.x1) & (rows >= box.y0) & (rows < box.y1)
    for is_positive, pixels, count in ((True, inside & mask, positive), (False, inside & ~mask, negative)):
        chosen = [point for point in points if point.positive == is_positive]
        assert len(chosen) == min(count, pixels.sum()) == len({(point.x, point.y) for point in chosen})
        assert all(pixels[int(point.y), int(point.x)] and point.x % 1 == point.y % 1 == 0.5 for point in chosen)


def test_clicks_reach_every_pixel():
    mask = np.zeros((4, 4), dtype=bool)
    mask[1:3, 1:3] = True
    points = sampling.clicks(mask, Box(0, 0, 4, 4), 4, 12, np.random.default_rng(0))
    assert len({(point.x, point.y) for point in points}) == 16


def test_deep_clicks_keep_away_from_edges_inside_and_outside_a_mask():
    mask = np.zeros((40, 80), dtype=bool)
    mask[:, :40] = True
    mean_distances = []
    for deep in (0, 1, 3):
        points = sampling.clicks(mask, Box(0, 0, 80, 40), 100, 100, np.random.default_rng(0), deep)
        on, off = ([p.x for p in points if p.positive is is_positive] for is_positive in (True, False))
        mean_distances.append([np.abs(np.array(on) - 20).mean(), np.abs(np.array(off) - 60).mean()])
    assert np.allclose(mean_distances[0], 10, atol=1.5)
    assert (np.diff(mean_distances, axis=0) < -0.5).all()


def test_clicks_on_a_lattice_are_cell_centres_with_the_label_of_the_mask():
    mask = np.zeros((30, 60), dtype=bool)
    mask[:, :25] = True
    points = sampling.clicks(mask, Box(10, 0, 60, 30), 9, 99, np.random.default_rng(0), lattice=5)
    centres = {(x, y) for x in (15.5, 25.5, 35.5, 45.5, 55.5) for y in (3.5, 9.5, 15.5, 21.5, 27.5)}
    assert {(point.x, point.y) for point in points} == centres
    assert all(point.positive is (point.x < 25) for point in points)
    assert sampling.clicks(mask, Box(3, 3, 3, 9), 9, 9, np.random.default_rng(0), lattice=5) == ()


def test_clicks_depend_on_the_seed_only():
    mask = np.tri(30, dtype=bool)
    first, same, different = (
        sampling.clicks(mask, bounding_box(mask), 3, 3, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == same != different


@given(arrays(bool, (9, 12)), st.floats(0.5, 6.0), st.integers(0, 30))
def test_points_near_the_edge_are_pixel_centres_within_reach_or_the_nearest(mask, reach, n):
    mask[4, 5] = True
    box = bounding_box(mask)
    points = sampling.near_edge(mask, box, n, reach, np.random.default_rng(0))
    assert points.shape == (n, 2)
    assert (points % 1 == 0.5).all()
    assert all(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in points.tolist())
    padded = np.pad(mask, 1)
    for x, y in points.tolist():
        opposite = np.argwhere(padded != is_on_mask(mask, x, y)) - 0.5
        distance = np.hypot(opposite[:, 1] - x, opposite[:, 0] - y).min()
        # a pixel on the mask may have no such neighbour
        assert distance <= max(reach, 1) + 1e-4 or is_on_mask(mask, x, y)


def test_points_near_the_edge_are_on_both_sides_if_the_box_has_both():
    mask = np.zeros((40, 40), dtype=bool)
    mask[:, :20] = True
    points = sampling.near_edge(mask, Box(0, 0, 40, 40), 500, 3, np.random.default_rng(0))
    assert 200 < (points[:, 0] < 20).sum() < 300
    inner = points[(points[:, 1] > 3) & (points[:, 1] < 37) & (points[:, 0] > 3)]
    assert (abs(inner[:, 0] - 20) < 3).all()
    one_sided = sampling.near_edge(mask, Box(0, 0, 20, 40), 200, 3, np.random.default_rng(0))
    assert (np.minimum.reduce([one_sided[:, 0], 20 - one_sided[:, 0], one_sided[:, 1], 40 - one_sided[:, 1]]) < 3).all()
    assert sampling.near_edge(mask, Box(5.6, 5.6, 5.9, 5.9), 3, 1, np.random.default_rng(0)).shape == (0, 2)
