"""Places points in a box or a mask, and labels points by a mask.

Points are arrays (n, 2) of (x, y) in pixels of the original image. Only functions with an ``rng`` argument are random.

    >>> grid(Box(0, 0, 4, 2), 2)
    array([[1. , 0.5], [3. , 0.5], [1. , 1.5], [3. , 1.5]])
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from sam4mllm.geometry.prompts import Box, Mask, Point, bounding_box, is_on_mask

Points: TypeAlias = Float[np.ndarray, "n 2"]

_PLASTIC = 1.324717957244746  # the real root of x^3 = x + 1
R2_STEPS = np.array([1 / _PLASTIC, 1 / _PLASTIC**2])
"""The steps of the R2 sequence, a low-discrepancy sequence: powers of the inverse plastic number (M. Roberts, "The
unreasonable effectiveness of quasirandom sequences", 2018)."""


def grid(box: Box, n: int) -> Points:
    """The centres of ``n`` x ``n`` equal cells of a box: n * n points in row-major order."""
    along = (np.arange(n) + 0.5) / n if n else np.zeros(0)
    across, down = np.meshgrid(along, along)
    return _from_fractions(box, np.stack([across.ravel(), down.ravel()], axis=1))


def low_discrepancy(box: Box, n: int) -> Points:
    """``n`` fixed points that cover a box evenly; the first k of them are the points for n = k.

    This is the R2 sequence, starting at the centre of the box.
    """
    return _from_fractions(box, (0.5 + np.arange(n)[:, None] * R2_STEPS) % 1.0)


def interior_of_box(box: Box, n: int) -> Points:
    """``n`` fixed points in the inner half of a box (half its width and height), starting at its centre.

    An object covers the middle of its box far more often than the corners. If the mask is known, use `interior`.
    """
    across, down = box.width / 4, box.height / 4
    return low_discrepancy(Box(box.x0 + across, box.y0 + down, box.x1 - across, box.y1 - down), n)


def poisson_disk(box: Box, n: int, rng: np.random.Generator) -> Points:
    """``n`` random points in a box, spread so that no two are close to each other.

    This is dart throwing with a radius that shrinks if none of 32 darts keeps its distance (McCool and Fiume,
    "Hierarchical Poisson disk sampling distributions", 1992). It finds exactly ``n`` points in a box of any shape, and
    the first k of them are spread for every k. A box of zero width and height gives its position ``n`` times.
    """
    extent = np.array([box.width, box.height])
    offsets = rng.random((1, 2)) * extent if n else np.zeros((0, 2))
    radius = math.hypot(box.width, box.height)
    if radius == 0:
        offsets = np.zeros((n, 2))
    while len(offsets) < n:
        darts = rng.random((32, 2)) * extent
        free = np.linalg.norm(darts[:, None] - offsets[None], axis=2).min(axis=1) >= radius
        if free.any():
            offsets = np.concatenate([offsets, darts[free.argmax()][None]])
        else:
            radius *= 0.9
    return _from_offsets(box, offsets)


def interior(mask: Mask, n: int) -> Points:
    """``n`` fixed pixel centres well inside a mask, starting with the pixel farthest from the mask's edge.

    Each further point is the pixel that is farthest from both the edge and the points before it. The image border
    counts as an edge. A mask with fewer than ``n`` pixels gives all of them; an empty mask gives none.
    """
    box = bounding_box(mask)
    if box is None:
        return np.zeros((0, 2))
    x0, y0, x1, y1 = map(int, box.xyxy)
    distance = _edge_distance(mask[y0:y1, x0:x1])
    rows, columns = np.indices(distance.shape)
    chosen = []
    for _ in range(min(n, int(mask.sum()))):
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        chosen.append((row, column))
        distance = np.minimum(distance, np.hypot(columns - column, rows - row))
    return np.array([(x0 + column + 0.5, y0 + row + 0.5) for row, column in chosen]).reshape(-1, 2)


def near_edge(mask: Mask, box: Box, n: int, reach: float, rng: np.random.Generator) -> Points:
    """``n`` random pixel centres of a box near a mask's edge, about half of them on the mask.

    A pixel is near the edge if its distance to the nearest pixel with the other label is at most ``reach`` pixels. If
    no pixel is, the nearest ones are used. The border of the box counts as an edge for pixels on the mask. If all
    pixels of the box have the same label, all points have it too. A pixel can occur more than once. A box without
    pixels gives no points.
    """
    down, across = pixels(box, *mask.shape)
    inside = mask[down, across]
    sides = []
    for side, distance in ((inside, _edge_distance(inside)), (~inside, _edge_distance(~inside, beyond=True))):
        if side.any():
            sides.append(np.flatnonzero(side & (distance <= max(reach, distance[side].min()))))
    if not sides:
        return np.zeros((0, 2))
    chosen = [int(rng.choice(sides[int(rng.integers(len(sides)))])) for _ in range(n)]
    rows, columns = np.divmod(np.array(chosen, dtype=np.int64), across.stop - across.start)
    return np.stack([across.start + columns + 0.5, down.start + rows + 0.5], axis=1).reshape(-1, 2)


def jitter_box(box: Box, share: float, height: int, width: int, rng: np.random.Generator) -> Box:
    """The box with each edge moved by up to ``share`` of the box's side, clipped to an image of height x width."""
    moves = rng.uniform(-share, share, 4) * [box.width, box.height, box.width, box.height]
    x0, y0, x1, y1 = (moves + box.xyxy).tolist()
    return Box(x0, y0, x1, y1).clip(width, height)


def label(points: Points, mask: Mask) -> tuple[Point, ...]:
    """The points with labels, in order; a point is positive if its pixel belongs to the mask."""
    return tuple(Point(float(x), float(y), positive=is_on_mask(mask, float(x), float(y))) for x, y in points)


def clicks(
    mask: Mask, box: Box, positive: int, negative: int, rng: np.random.Generator, deep: float = 0.0, lattice: int = 0
) -> tuple[Point, ...]:
    """Random points in a box at distinct pixel centres: first positive points on the mask, then negative ones off it.

    Args:
        mask: the object's mask.
        box: the box; points outside it are never chosen.
        positive: number of positive points; fewer if the box has fewer such pixels.
        negative: number of negative points; fewer if the box has fewer such pixels, none if the mask fills it.
        rng: the source of randomness.
        deep: a pixel's probability is proportional to its distance from the edges of the mask and the box, raised to
            this power. 0 makes all pixels equally likely.
        lattice: if n > 0, only the centres of n x n equal cells of the box are candidates.
    """
    down, across = pixels(box, *mask.shape)
    inside = mask[down, across]
    allowed = _lattice(inside.shape, lattice) if lattice else np.ones_like(inside)
    return tuple(
        Point(across.start + column + 0.5, down.start + row + 0.5, positive=is_positive)
        for is_positive, region, count in ((True, inside, positive), (False, ~inside, negative))
        for row, column in _choose_pixels(region, allowed, count, rng, deep)
    )


def pixels(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of the pixels with centres in a box, for an image of ``height`` x ``width`` pixels.

    Both can be empty: a box without area contains no centre.
    """
    x0, y0, x1, y1 = (math.ceil(edge - 0.5) for edge in box.clip(width, height).xyxy)
    return slice(y0, y1), slice(x0, x1)


def _choose_pixels(
    region: Bool[np.ndarray, "h w"], allowed: Bool[np.ndarray, "h w"], count: int, rng: np.random.Generator, deep: float
) -> list[tuple[int, int]]:
    """At most ``count`` distinct pixels (row, column) that are set in both; distances are measured in ``region``."""
    candidates = np.flatnonzero(region & allowed)  # flat indices: np.nonzero takes ten times as long
    probabilities = None
    if deep and candidates.size:
        probabilities = _edge_distance(region).ravel()[candidates] ** deep
        probabilities /= probabilities.sum()
    chosen = candidates[rng.choice(candidates.size, size=min(count, candidates.size), replace=False, p=probabilities)]
    return [divmod(int(index), region.shape[1]) for index in chosen]


def _lattice(shape: tuple[int, ...], n: int) -> Bool[np.ndarray, "h w"]:
    """The pixels at the centres of n x n equal cells."""
    allowed = np.zeros(shape, dtype=bool)
    rows, columns = (((np.arange(n) + 0.5) / n * side).astype(int) for side in shape)
    if allowed.size:
        allowed[np.ix_(rows, columns)] = True
    return allowed


def _edge_distance(region: Bool[np.ndarray, "h w"], beyond: bool = False) -> Float[np.ndarray, "h w"]:
    """The distance of each set pixel to the nearest unset one; ``beyond`` is the value of pixels outside the array."""
    import cv2  # importing takes a fifth of a second, and only this function needs it

    padded = np.pad(region, 1, constant_values=beyond).astype(np.uint8)
    distance: Float[np.ndarray, "h w"] = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return distance.astype(np.float64)


def _from_fractions(box: Box, fractions: Points) -> Points:
    """Positions in pixels from fractions 0..1 of the box's width and height."""
    return _from_offsets(box, fractions * np.array([box.width, box.height]))


def _from_offsets(box: Box, offsets: Points) -> Points:
    """Positions in pixels from offsets to the box's upper left corner, clipped to the box against rounding errors."""
    low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
    points: Points = np.clip(low + offsets, low, high)
    return points
