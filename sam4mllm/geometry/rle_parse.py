"""Compressed run-length counts as numbers, many masks at once, checked. Knows nothing of pycocotools and of sizes.

The format (rleFrString in cocoapi's maskApi.c): 5 bits a character from "0" on, low bits first, bit 6 says that more
follow, the last one's bit 5 is the sign; from the fourth number on each is the difference to the last but one.

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
    """The runs of several masks, off first, one after the other.

    Attributes:
        flat: of all masks, 0 or more each.
        ends: where in ``flat`` each mask's runs end.
    """

    flat: Int32[np.ndarray, " runs"]
    ends: Int64[np.ndarray, " masks"]

    @property
    def begins(self) -> Int64[np.ndarray, " masks"]:
        """Where each mask's runs begin."""
        return _begins(self.ends)

    @property
    def loose(self) -> Int64[np.ndarray, " some"]:
        """Which masks have an empty run other than their first, in order."""
        if self.flat.all():
            return np.zeros(0, dtype=np.int64)
        empty = np.flatnonzero(self.flat == 0)
        owners = np.searchsorted(self.ends, empty, side="right")
        return np.unique(owners[empty != self.begins[owners]])


def parse(counts: Sequence[str], pixels: Sequence[int]) -> Runs:
    """The runs that compressed counts stand for; a thousand masks take a tenth of the time of one by one.

    Args:
        counts: of each mask; any text.
        pixels: how many each mask has; less than 2**31.

    Raises:
        UserError: for the first counts that are malformed, or do not fill their mask.
    """
    texts = [each.encode("utf-8", "surrogatepass") for each in counts]  # nothing becomes "?", which counts may hold
    for text, shown in zip(texts, counts, strict=True):
        if not text or text[-1] >= _FIRST + 32 or text.translate(None, _CHARACTERS):
            raise UserError(f"no mask has the run-length counts {short(shown)}")
    characters = np.frombuffer(b"".join(texts), dtype=np.uint8)
    last = np.cumsum([len(text) for text in texts]) - 1
    stops = np.flatnonzero(characters < _FIRST + 32)  # the last character of each number
    ends = np.searchsorted(stops, last, side="right").astype(np.int64)
    lengths = stops.copy()
    lengths[0] += 1
    lengths[1:] -= stops[:-1]
    if lengths.max(initial=0) > _LONGEST_NUMBER:
        owner = int(np.searchsorted(ends, int(lengths.argmax()), side="right"))
        raise UserError(f"no mask has the run-length counts {short(counts[owner])}")
    runs = Runs(_undone(_numbers(characters, stops, lengths), ends), ends)
    _check(runs, counts, np.asarray(pixels, dtype=np.int64))
    return runs


def short(value: object) -> str:
    """A value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _begins(ends: Int64[np.ndarray, " masks"]) -> Int64[np.ndarray, " masks"]:
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return begins


def _numbers(
    characters: UInt8[np.ndarray, " characters"], stops: Int64[np.ndarray, " runs"], lengths: Int64[np.ndarray, " runs"]
) -> Int32[np.ndarray, " runs"]:
    """The numbers as they are written: the last character's bits with their sign, then the lower ones.

    The 5 bits of a character are those of its code with the highest turned, for "0" has that one set.
    """
    numbers: Int32[np.ndarray, " runs"] = (characters[stops] & 31).astype(np.int32) - 16
    rows = np.flatnonzero(lengths > 1)
    step = 1
    while rows.size:
        numbers[rows] = numbers[rows] * 32 + (characters[stops[rows] - step] & 31 ^ 16)
        step += 1
        rows = rows[lengths[rows] > step]
    return numbers


def _undone(numbers: Int32[np.ndarray, " runs"], ends: Int64[np.ndarray, " masks"]) -> Int32[np.ndarray, " runs"]:
    """The differences undone: running sums over every other number, which begin anew with each mask."""
    begins = _begins(ends)
    first = numbers[begins]
    numbers[begins] = 0  # the third run is no difference to the first
    runs = np.empty_like(numbers)
    for parity in (0, 1):
        differences = numbers[parity::2]
        sums = np.zeros(differences.size + 1, dtype=np.int32)  # which may run over, as it does in pycocotools: in step
        np.cumsum(differences, out=sums[1:])
        low, high = ((edges + 1 - parity) // 2 for edges in (begins, ends))
        runs[parity::2] = sums[1:] - np.repeat(sums[low], high - low)
    runs[begins] = first
    return runs


def _check(runs: Runs, counts: Sequence[str], pixels: Int64[np.ndarray, " masks"]) -> None:
    begins = runs.begins
    wrong = np.minimum.reduceat(runs.flat, begins) < 0
    wrong |= np.maximum.reduceat(runs.flat, begins) > pixels
    wrong |= np.add.reduceat(runs.flat, begins, dtype=np.int64) != pixels
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(
            f"the run-length counts {short(counts[first])} do not fill a mask of {int(pixels[first])} pixels"
        )
