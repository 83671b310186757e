"""Whether a reading can be written to its end, so that no split is written before another one turns out not to be.

Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath
from reprlib import repr as shown

from data_prep.plain import is_sound
from data_prep.reading import Reading
from sam4mllm.errors import UserError
from sam4mllm.samples import check_ids


def check_sound(reading: Reading) -> None:
    """Make sure that splits can be folders, that no id comes twice in one, and that all texts can be written.

    Raises:
        UserError: saying what cannot.
    """
    for split in {**reading.splits, **reading.talks}:
        if PurePosixPath(split).name != split or split in ("", "..") or not is_sound(split):
            raise UserError(f"a split is a folder of its own, so its name is a plain one, got {shown(split)}")
    for split, samples in reading.splits.items():
        check_ids((sample.id for sample in samples), f"{split} sample")
    for split, talks in reading.talks.items():
        check_ids((talk.id for talk in talks), f"{split} talk")
    for text in _texts(reading):
        if not is_sound(text):
            raise UserError(f"half a letter (a lone surrogate) cannot be written: {shown(text)}")


def _texts(reading: Reading) -> Iterator[str]:
    for sample in chain.from_iterable(reading.splits.values()):
        yield from (sample.id, sample.image, sample.phrase, sample.raw)
    for talk in chain.from_iterable(reading.talks.values()):
        yield from (talk.id, talk.image, *(turn.text for turn in talk.turns))
    yield from chain.from_iterable(reading.noticed.values())
