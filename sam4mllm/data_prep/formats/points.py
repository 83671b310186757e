"""Checks the points of shapes in files from other projects.

parse_points([[10.5, 20], [12, 8]])  ->  [(10.5, 20.0), (12.0, 8.0)]
"""

from __future__ import annotations

from collections.abc import Sequence

from sam4mllm.errors import UserError

MAX_COORDINATE = 2**15  # pixels; cv2's fixed-point coordinates overflow beyond it
SLACK = 1.0  # pixels; COCO's annotators click that far outside the image
CUT = "shapes beyond the image, cut at its edge"


def parse_points(value: object) -> list[tuple[float, float]]:
    """One or more points (x, y) in pixels.

    Raises:
        UserError: for anything but a list of points, and for coordinates of `MAX_COORDINATE` or more.
    """
    if not isinstance(value, list) or not value or not all(map(_is_point, value)):
        raise UserError(f"a shape is a list of points x, y within {MAX_COORDINATE} pixels, got {value!r:.60}")
    return [(float(x), float(y)) for x, y in value]


def is_outside(xs: Sequence[float], ys: Sequence[float], height: int, width: int) -> bool:
    """Whether any point is outside the image by more than `SLACK`."""
    return min(xs) < -SLACK or min(ys) < -SLACK or max(xs) > width + SLACK or max(ys) > height + SLACK


def _is_point(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(number) in (int, float) and abs(number) < MAX_COORDINATE for number in value)  # false for nan
    )
