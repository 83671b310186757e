"""Whether a reading can be written to its end, so that no split is written before another one turns out not to be.

Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import repr as shown

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import Sample, check_ids
from sam4mllm.data_prep.formats.plain import is_sound
from sam4mllm.data_prep.reading import Reading
from sam4mllm.data_prep.report import NAME
from sam4mllm.errors import UserError

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def check_sound(reading: Reading) -> None:
    """Make sure that splits can be folders, paths are of one line, no id comes twice, and all texts can be written.

    Raises:
        UserError: saying what cannot.
    """
    for split in {**reading.splits, **reading.talks}:
        if not _is_plain(split):
            raise UserError(f"a split is a folder of its own, so its name is a plain one, got {shown(split)}")
    for row in _rows(reading):
        if _has_controls(row.image):
            raise UserError(
                f"{row.id}: a picture's path is one line without control characters, got {shown(row.image)}"
            )
    for split, samples in reading.splits.items():
        check_ids((sample.id for sample in samples), f"{split} sample")
    for split, talks in reading.talks.items():
        check_ids((talk.id for talk in talks), f"{split} talk")
    for text in _texts(reading):
        if not is_sound(text):
            raise UserError(f"half a letter (a lone surrogate) cannot be written: {shown(text)}")


def _is_plain(split: str) -> bool:
    """Whether a word is one part of a path on any system, not hidden, and none that a folder of splits has already."""
    one = PurePosixPath(split).name == split == PureWindowsPath(split).name
    return (
        one and not split.startswith(".") and is_sound(split) and not _has_controls(split) and split not in ("", NAME)
    )


def _has_controls(name: str) -> bool:
    return _CONTROLS.search(name) is not None


def _rows(reading: Reading) -> Iterator[Sample | Talk]:
    yield from chain.from_iterable(reading.splits.values())
    yield from chain.from_iterable(reading.talks.values())


def _texts(reading: Reading) -> Iterator[str]:
    for sample in chain.from_iterable(reading.splits.values()):
        yield from (sample.id, sample.image, sample.phrase, sample.raw)
    for talk in chain.from_iterable(reading.talks.values()):
        yield from (talk.id, talk.image, *(turn.text for turn in talk.turns))
    yield from chain.from_iterable(reading.noticed.values())
