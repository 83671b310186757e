"""Where to click: points laid over a box, points inside a mask, and clicks labelled by a mask.

Points are arrays (n, 2) of (x, y) in pixels of the original image, so that a whole layout is one value. Nothing is
random unless it takes an ``rng``. Knows nothing of models or of what the points are asked for.

    >>> grid(Box(0, 0, 4, 2), 2)
    array([[1. , 0.5], [3. , 0.5], [1. , 1.5], [3. , 1.5]])
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from sam4mllm.geometry.prompts import Box, Mask, Point, box_of, on_mask

Points: TypeAlias = Float[np.ndarray, "n 2"]

_PLASTIC = 1.324717957244746  # the real root of x^3 = x + 1
R2_STEPS = np.array([1 / _PLASTIC, 1 / _PLASTIC**2])
"""The steps of the R2 sequence, which spreads points evenly: powers of the inverse plastic number (M. Roberts, "The
unreasonable effectiveness of quasirandom sequences", 2018)."""


def grid(box: Box, n: int) -> Points:
    """The centres of ``n`` x ``n`` equal cells of a box, row by row: n * n points."""
    along = (np.arange(n) + 0.5) / n if n else np.zeros(0)
    across, down = np.meshgrid(along, along)
    return _laid(box, np.stack([across.ravel(), down.ravel()], axis=1))


def low_discrepancy(box: Box, n: int) -> Points:
    """``n`` fixed points that cover a box evenly at every n: the first k of them are the set for k.

    The R2 sequence, begun at the centre of the box.
    """
    return _laid(box, (0.5 + np.arange(n)[:, None] * R2_STEPS) % 1.0)


def interior_of_box(box: Box, n: int) -> Points:
    """``n`` fixed points of a box's inner half (half its width and height), its centre first.

    An object fills the middle of its box far more often than the corners; see `interior` where the mask is known.
    """
    across, down = box.width / 4, box.height / 4
    return low_discrepancy(Box(box.x0 + across, box.y0 + down, box.x1 - across, box.y1 - down), n)


def poisson_disk(box: Box, n: int, rng: np.random.Generator) -> Points:
    """``n`` random points of a box, no two of them near each other.

    Darts are thrown with a radius that shrinks when none of a handful lands free (McCool and Fiume, "Hierarchical
    Poisson disk sampling distributions", 1992), so exactly ``n`` are found in a box of any shape, and any first k are
    spread as well. A box without extent gives its one place ``n`` times.
    """
    extent = np.array([box.width, box.height])
    kept = rng.random((1, 2)) * extent if n else np.zeros((0, 2))
    radius = math.hypot(box.width, box.height)
    if radius == 0:
        kept = np.zeros((n, 2))
    while len(kept) < n:
        darts = rng.random((32, 2)) * extent
        free = np.linalg.norm(darts[:, None] - kept[None], axis=2).min(axis=1) >= radius
        if free.any():
            kept = np.concatenate([kept, darts[free.argmax()][None]])
        else:
            radius *= 0.9
    return _placed(box, kept)


def interior(mask: Mask, n: int) -> Points:
    """``n`` fixed pixel centres well inside a mask: the farthest from its edge first, then spread.

    Each next one is the pixel that is farthest from both the edge and the points before it. The picture's border is an
    edge. As many as there are pixels where there are fewer than ``n``; none for an empty mask.
    """
    box = box_of(mask)
    if box is None:
        return np.zeros((0, 2))
    left, top, right, bottom = map(int, box.xyxy)
    room = _room(mask[top:bottom, left:right])
    rows, columns = np.indices(room.shape)
    found = []
    for _ in range(min(n, int(mask.sum()))):
        row, column = np.unravel_index(room.argmax(), room.shape)
        found.append((row, column))
        room = np.minimum(room, np.hypot(columns - column, rows - row))
    return np.array([(left + column + 0.5, top + row + 0.5) for row, column in found]).reshape(-1, 2)


def near_edge(mask: Mask, box: Box, n: int, reach: float, rng: np.random.Generator) -> Points:
    """``n`` random pixel centres of a box that are near a mask's edge, about as many on the mask as off it.

    Near is within ``reach`` pixels of the nearest pixel of the other side, and where no pixel is so near, the nearest
    that there is. The box's border is an edge of what is on the mask. A box that holds pixels of one side alone gives
    that side's; a pixel may come twice, and a box without a pixel gives none.
    """
    down, across = pixels(box, *mask.shape)
    inside = mask[down, across]
    sides = []
    for side, depth in ((inside, _room(inside)), (~inside, _room(~inside, beyond=True))):
        if side.any():
            sides.append(np.flatnonzero(side & (depth <= max(reach, depth[side].min()))))
    if not sides:
        return np.zeros((0, 2))
    chosen = [int(rng.choice(sides[int(rng.integers(len(sides)))])) for _ in range(n)]
    rows, columns = np.divmod(np.array(chosen, dtype=np.int64), across.stop - across.start)
    return np.stack([across.start + columns + 0.5, down.start + rows + 0.5], axis=1).reshape(-1, 2)


def label(points: Points, mask: Mask) -> tuple[Point, ...]:
    """The points as clicks, in order: positive where their pixel belongs to the mask."""
    return tuple(Point(float(x), float(y), positive=on_mask(mask, float(x), float(y))) for x, y in points)


def clicks(
    mask: Mask,
    box: Box,
    positive: int,
    negative: int,
    rng: np.random.Generator,
    deep: float = 0.0,
    lattice: int = 0,
) -> tuple[Point, ...]:
    """Random pixel centres inside a box: ``positive`` different ones on the mask, then ``negative`` off it.

    Fewer where the box does not hold as many such pixels; a mask that fills its box gives no negative ones. A pixel's
    chance grows with its distance from the mask's and the box's edges, to the power of ``deep``: 0 for all alike. With
    a ``lattice`` of n only the centres of n x n cells of the box are clicked on; 0 for all pixels.
    """
    down, across = pixels(box, *mask.shape)
    inside = mask[down, across]
    allowed = _lattice(inside.shape, lattice) if lattice else np.ones_like(inside)
    return tuple(
        Point(across.start + column + 0.5, down.start + row + 0.5, positive=sign)
        for sign, places, count in ((True, inside, positive), (False, ~inside, negative))
        for row, column in _some(places, allowed, count, rng, deep)
    )


def pixels(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a picture of ``height`` x ``width`` whose pixels have their centres in a box.

    Either may be empty: a box without extent holds no centre.
    """
    left, top, right, bottom = (math.ceil(edge - 0.5) for edge in box.clip(width, height).xyxy)
    return slice(top, bottom), slice(left, right)


def _some(
    places: Bool[np.ndarray, "h w"],
    allowed: Bool[np.ndarray, "h w"],
    count: int,
    rng: np.random.Generator,
    deep: float,
) -> list[tuple[int, int]]:
    """At most ``count`` different pixels as (row, column), set in both; their depth is that in ``places``."""
    flat = np.flatnonzero(places & allowed)  # a tenth of the time that rows and columns of all of them take
    chances = None
    if deep and flat.size:
        chances = _room(places).ravel()[flat] ** deep
        chances /= chances.sum()
    chosen = flat[rng.choice(flat.size, size=min(count, flat.size), replace=False, p=chances)]
    return [divmod(int(place), places.shape[1]) for place in chosen]


def _lattice(shape: tuple[int, ...], n: int) -> Bool[np.ndarray, "h w"]:
    """The pixels at the centres of n x n equal cells."""
    allowed = np.zeros(shape, dtype=bool)
    rows, columns = (((np.arange(n) + 0.5) / n * side).astype(int) for side in shape)
    if allowed.size:
        allowed[np.ix_(rows, columns)] = True
    return allowed


def _room(places: Bool[np.ndarray, "h w"], beyond: bool = False) -> Float[np.ndarray, "h w"]:
    """How far each set pixel is from the nearest that is not set; ``beyond`` says whether those off the array are."""
    import cv2  # a fifth of a second to import, and only this needs it

    padded = np.pad(places, 1, constant_values=beyond).astype(np.uint8)
    room: Float[np.ndarray, "h w"] = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return room.astype(np.float64)


def _laid(box: Box, fractions: Points) -> Points:
    """Fractions of a box, 0..1, in pixels."""
    return _placed(box, fractions * np.array([box.width, box.height]))


def _placed(box: Box, offsets: Points) -> Points:
    """Offsets from a box's corner in pixels; the clip takes back what rounding adds."""
    low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
    placed: Points = np.clip(low + offsets, low, high)
    return placed
