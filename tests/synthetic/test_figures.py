from __future__ import annotations

import math

import numpy as np
import pytest

from sam4mllm.synthetic.figures import (
    BORES,
    COLOURS,
    HALF,
    RADII,
    SHAPES,
    SIZES,
    TURNS,
    Pose,
    inside_outline,
    rasterise,
)
from sam4mllm.synthetic.paint import PALETTE

SIDE, RADIUS, BORE = 200, 80.0, 0.6
AREAS = {
    "circle": math.pi,
    "ring": math.pi * (1 - BORE**2),
    "square": (2 * HALF) ** 2,
    "frame": (2 * HALF) ** 2 * (1 - BORE**2),
    "triangle": 3 * math.sqrt(3) / 4,
    "cross": 8 * BORE - 4 * BORE**2,
    "bar": 4 * BORE,
}  # areas at radius 1; the area of a horseshoe is between that of half a ring and of a ring


def pose(shape: str, angle: float = 0.0, bore: float = BORE) -> Pose:
    return Pose(shape, 100.0, 100.0, RADIUS, angle, bore)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("shape", AREAS)
def test_a_mask_has_the_area_of_its_shape_at_any_angle(shape: str, angle: float) -> None:
    full, _ = rasterise(pose(shape, angle), SIDE)
    assert full.sum() == pytest.approx(AREAS[shape] * RADIUS**2, rel=0.015)  # edges run between pixel centres


def test_a_horseshoe_is_a_ring_with_a_gap_below() -> None:
    ring, horseshoe = rasterise(pose("ring"), SIDE)[0], rasterise(pose("horseshoe"), SIDE)[0]
    assert (horseshoe <= ring).all()
    gap = ring & ~horseshoe
    assert 0 < gap.sum() < ring.sum() / 2
    assert not gap[:100].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hole_has_the_expected_area_and_does_not_overlap_its_figure(shape: str) -> None:
    full, hole = rasterise(pose(shape, 0.3), SIDE)
    assert (hole is not None) == (shape in ("ring", "frame", "horseshoe"))
    if hole is not None:
        area = BORE**2 * (4 * HALF**2 if shape == "frame" else math.pi)
        assert hole.sum() == pytest.approx(area * RADIUS**2, rel=0.015)
        assert not (hole & full).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_figure_that_crosses_the_image_edge_is_clipped(shape: str) -> None:
    complete, _ = rasterise(pose(shape, 0.3), SIDE)
    moved = Pose(shape, 40.0, 100.0, RADIUS, 0.3, BORE)  # 60 pixels to the left
    assert (rasterise(moved, SIDE)[0][:, :140] == complete[:, 60:]).all()


def test_an_unknown_shape_is_refused_with_the_choices() -> None:
    u = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="unknown shape 'blob': choose from circle, square"):
        inside_outline("blob", u, u, 0.5)


def test_the_tables_have_the_same_keys() -> None:
    assert set(PALETTE) == set(COLOURS)
    assert set(RADII) == set(SIZES)
    assert {*BORES, *TURNS} <= set(SHAPES)
    assert RADII["small"][1] < RADII["big"][0]
