"""Parses and validates compressed run-length counts of many masks at once.

The format (``rleFrString`` in cocoapi's ``maskApi.c``): each character holds 5 bits as an offset from "0", low bits
first. A sixth bit marks that more characters follow, and the fifth bit of the last character is the sign. From the
fourth number on, each number is the difference to the number two places before it.

    >>> parse(["213"], [6])
    Runs(flat=array([2, 1, 3]), ends=array([3]))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from sam4mllm.errors import UserError

_FIRST = ord("0")
_CHARACTERS = bytes(range(_FIRST, _FIRST + 64))
_LONGEST_NUMBER = 6  # characters of 5 bits; no mask that `rle.MAX_PIXELS` allows needs more


@dataclass(frozen=True)
class Runs:
    """The runs of several masks, concatenated; the runs of each mask start with zeros.

    Attributes:
        flat: the lengths of all runs, 0 or more.
        ends: index in ``flat`` after the last run of each mask.
    """

    flat: Int32[np.ndarray, " runs"]
    ends: Int64[np.ndarray, " masks"]

    @property
    def begins(self) -> Int64[np.ndarray, " masks"]:
        """Index in ``flat`` of the first run of each mask."""
        return _begins(self.ends)

    @property
    def loose(self) -> Int64[np.ndarray, " some"]:
        """Indices of the masks that have an empty run other than the first, in ascending order."""
        if self.flat.all():
            return np.zeros(0, dtype=np.int64)
        empty = np.flatnonzero(self.flat == 0)
        owners = np.searchsorted(self.ends, empty, side="right")
        return np.unique(owners[empty != self.begins[owners]])


def parse(counts: Sequence[str], pixels: Sequence[int]) -> Runs:
    """The runs of compressed counts. Parsing a thousand masks at once takes a tenth of the time of single calls.

    Args:
        counts: the compressed counts of each mask; any text.
        pixels: number of pixels of each mask; less than 2**31.

    Raises:
        UserError: if counts are malformed or do not fill their mask; the message shows the first such counts.
    """
    # surrogatepass: replacing a surrogate by "?" would make it a valid character
    texts = [text.encode("utf-8", "surrogatepass") for text in counts]
    for text, original in zip(texts, counts, strict=True):
        if not text or text[-1] >= _FIRST + 32 or text.translate(None, _CHARACTERS):
            raise UserError(f"invalid run-length counts of a mask: {short(original)}")
    characters = np.frombuffer(b"".join(texts), dtype=np.uint8)
    last = np.cumsum([len(text) for text in texts]) - 1
    stops = np.flatnonzero(characters < _FIRST + 32)  # the last character of each number
    ends = np.searchsorted(stops, last, side="right").astype(np.int64)
    lengths = stops.copy()
    lengths[0] += 1
    lengths[1:] -= stops[:-1]
    if lengths.max(initial=0) > _LONGEST_NUMBER:
        owner = int(np.searchsorted(ends, int(lengths.argmax()), side="right"))
        raise UserError(f"invalid run-length counts of a mask: {short(counts[owner])}")
    runs = Runs(_undo_differences(_numbers(characters, stops, lengths), ends), ends)
    _check(runs, counts, np.asarray(pixels, dtype=np.int64))
    return runs


def short(value: object) -> str:
    """A value's repr for an error message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _begins(ends: Int64[np.ndarray, " masks"]) -> Int64[np.ndarray, " masks"]:
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return begins


def _numbers(
    characters: UInt8[np.ndarray, " characters"], stops: Int64[np.ndarray, " runs"], lengths: Int64[np.ndarray, " runs"]
) -> Int32[np.ndarray, " runs"]:
    """The numbers as they are encoded: the last character's bits with their sign, followed by the lower bits.

    The 5 bits of a character are those of its code with the highest one inverted, because it is set in "0".
    """
    numbers: Int32[np.ndarray, " runs"] = (characters[stops] & 31).astype(np.int32) - 16
    rows = np.flatnonzero(lengths > 1)
    step = 1
    while rows.size:
        numbers[rows] = numbers[rows] * 32 + (characters[stops[rows] - step] & 31 ^ 16)
        step += 1
        rows = rows[lengths[rows] > step]
    return numbers


def _undo_differences(
    numbers: Int32[np.ndarray, " runs"], ends: Int64[np.ndarray, " masks"]
) -> Int32[np.ndarray, " runs"]:
    """The runs: cumulative sums over every other number, which start again with each mask."""
    begins = _begins(ends)
    first = numbers[begins]
    numbers[begins] = 0  # the third number is not a difference to the first
    runs = np.empty_like(numbers)
    for parity in (0, 1):
        differences = numbers[parity::2]
        sums = np.zeros(differences.size + 1, dtype=np.int32)  # may overflow, exactly as in pycocotools
        np.cumsum(differences, out=sums[1:])
        low, high = ((edges + 1 - parity) // 2 for edges in (begins, ends))
        runs[parity::2] = sums[1:] - np.repeat(sums[low], high - low)
    runs[begins] = first
    return runs


def _check(runs: Runs, counts: Sequence[str], pixels: Int64[np.ndarray, " masks"]) -> None:
    begins = runs.begins
    invalid = np.minimum.reduceat(runs.flat, begins) < 0
    invalid |= np.maximum.reduceat(runs.flat, begins) > pixels
    invalid |= np.add.reduceat(runs.flat, begins, dtype=np.int64) != pixels
    if invalid.any():
        first = int(invalid.argmax())
        raise UserError(
            f"the run-length counts {short(counts[first])} do not fill a mask of {int(pixels[first])} pixels"
        )
