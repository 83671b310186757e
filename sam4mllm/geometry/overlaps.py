"""Areas and intersections of many pairs of masks, computed from run lengths without decoding the masks.

The run boundaries of two masks, sorted together, are the run boundaries of their symmetric difference. The intersection
follows from its area and the two areas. All numbers are integers, and no C code relies on unchecked input.

    >>> shared(["213"], ["06"], [6])
    (array([1]), array([1]), array([6]))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64

from sam4mllm.geometry.rle_parse import Runs, parse

Areas = Int64[np.ndarray, " pairs"]


def shared(first: Sequence[str], second: Sequence[str], pixels: Sequence[int]) -> tuple[Areas, Areas, Areas]:
    """The intersection of each pair of masks, the area of its first mask and the area of its second, in pixels.

    Args:
        first: compressed counts; any text, it is checked.
        second: compressed counts of the other mask of each pair.
        pixels: number of pixels, height times width, of both masks of each pair.

    Raises:
        UserError: if counts are malformed or do not fill their mask; the message shows the first such counts.
    """
    if not pixels:
        return (np.zeros(0, dtype=np.int64),) * 3
    edges = [_edges(parse(counts, pixels), sum(pixels)) for counts in (first, second)]
    first_area, second_area = (_area_between(positions, counts) for positions, counts in edges)
    merged = np.concatenate([positions for positions, _ in edges])
    merged.sort(kind="stable")  # a merge sort: two sorted halves take a tenth of the time of unsorted data
    difference = _area_between(merged, edges[0][1] + edges[1][1])
    return (first_area + second_area - difference) // 2, first_area, second_area


def _edges(runs: Runs, pixels: int) -> tuple[Int[np.ndarray, " edges"], Int64[np.ndarray, " masks"]]:
    """The positions where runs of ones begin and end in the concatenated masks, and their number per mask, always even.

    The end of a mask counts only if its last run consists of ones, that is, if the mask has an even number of runs.
    """
    dtype = np.int32 if pixels < 2**31 else np.int64  # int32 sorts in half the time
    positions = runs.flat.cumsum(dtype=dtype)
    counts = runs.ends - runs.begins
    is_edge = np.ones(positions.size, dtype=bool)
    is_edge[runs.ends - 1] = counts % 2 == 0
    return positions[is_edge], counts - counts % 2


def _area_between(positions: Int[np.ndarray, " edges"], counts: Int64[np.ndarray, " masks"]) -> Areas:
    """The pixels between each even and the following odd position, summed per mask over its number of positions."""
    sums = np.zeros(positions.size // 2 + 1, dtype=np.int64)
    np.cumsum(positions[1::2] - positions[::2], out=sums[1:])
    ends = counts.cumsum() // 2
    areas: Areas = sums[ends] - sums[ends - counts // 2]
    return areas
