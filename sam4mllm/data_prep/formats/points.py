"""Places in foreign files: numbers, and not far off; and whether what they draw leaves its picture.

    as_points([[10.5, 20], [12, 8]])  ->  [(10.5, 20.0), (12.0, 8.0)]

Knows nothing of how shapes are painted.
"""

from __future__ import annotations

from collections.abc import Sequence

from sam4mllm.errors import UserError

FARTHEST = 2**15  # pixels; beyond it cv2's own numbers overflow
SLACK = 1.0  # pixels; COCO's own annotators click that far off the edge
CUT = "shapes that leave the picture, cut at its edge"


def as_points(value: object) -> list[tuple[float, float]]:
    """A value of a foreign file, where a list of places is due, one or more.

    Raises:
        UserError: for anything else, and for places `FARTHEST` or farther off.
    """
    if not isinstance(value, list) or not value or not all(map(_is_point, value)):
        raise UserError(f"a shape is a list of points x, y within {FARTHEST} pixels, got {value!r:.60}")
    return [(float(x), float(y)) for x, y in value]


def leave(xs: Sequence[float], ys: Sequence[float], height: int, width: int) -> bool:
    """Whether places lie off a picture by more than `SLACK`."""
    return min(xs) < -SLACK or min(ys) < -SLACK or max(xs) > width + SLACK or max(ys) > height + SLACK


def _is_point(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(each) in (int, float) and abs(each) < FARTHEST for each in value)  # no nan is less
    )
