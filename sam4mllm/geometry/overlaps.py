"""How many pixels pairs of masks have and share, from their run lengths: many pairs at once, nothing drawn.

Where two masks begin and end, sorted together, begin and end the pixels that only one of them holds; what both hold
follows from that and their areas. Integers throughout, and no C code that trusts its input. Knows nothing of files.

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
    """The pixels that both masks of each pair hold, that the first does, and that the second does.

    Args:
        first: compressed counts, any text.
        second: one for each of the first.
        pixels: how many both masks of each pair have.

    Raises:
        UserError: for the first counts that are malformed, or do not fill their mask.
    """
    if not pixels:
        return (np.zeros(0, dtype=np.int64),) * 3
    edges = [_edges(parse(counts, pixels), sum(pixels)) for counts in (first, second)]
    one, two = (_between(places, many) for places, many in edges)
    either = np.concatenate([places for places, _ in edges])
    either.sort(kind="stable")  # which merges what is sorted in two parts, and takes a tenth of the time
    apart = _between(either, edges[0][1] + edges[1][1])
    return (one + two - apart) // 2, one, two


def _edges(runs: Runs, pixels: int) -> tuple[Int[np.ndarray, " edges"], Int64[np.ndarray, " masks"]]:
    """Where masks laid one after the other begin and end, and how many such places each has: an even number.

    The end of a mask is one of them only where its last run is on, which is where it has an even number of runs.
    """
    small = np.int32 if pixels < 2**31 else np.int64  # half as long to sort
    places = runs.flat.cumsum(dtype=small)
    counts = runs.ends - runs.begins
    kept = np.ones(places.size, dtype=bool)
    kept[runs.ends - 1] = counts % 2 == 0
    return places[kept], counts - counts % 2


def _between(places: Int[np.ndarray, " edges"], many: Int64[np.ndarray, " masks"]) -> Areas:
    """The pixels from each first to each second place, summed over as many places as each mask has."""
    sums = np.zeros(places.size // 2 + 1, dtype=np.int64)
    np.cumsum(places[1::2] - places[::2], out=sums[1:])
    ends = many.cumsum() // 2
    areas: Areas = sums[ends] - sums[ends - many // 2]
    return areas
