"""Checks that all splits of a data set can be written, before any split is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import repr as short_repr

from sam4mllm.data.samples import check_ids
from sam4mllm.data_prep.formats.safe_io import is_valid_text
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.report import REPORT_FILE
from sam4mllm.errors import UserError

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def validate(dataset: RawDataset) -> None:
    """Checks that splits are valid folder names, paths have no control characters, ids are unique and text is valid.

    Raises:
        UserError: if one of these does not hold.
    """
    for split, rows in dataset.all_splits:
        if not _is_folder_name(split):
            raise UserError(
                f"a split is written to a folder of its name, but {short_repr(split)} is not a valid folder name"
            )
        for row in rows:
            if _CONTROLS.search(row.image):
                raise UserError(
                    f"{row.id}: an image path must not contain control characters, got {short_repr(row.image)}"
                )
    for split, samples in dataset.splits.items():
        check_ids((sample.id for sample in samples), f"{split} sample")
    for split, talks in dataset.conversations.items():
        check_ids((talk.id for talk in talks), f"{split} talk")
    for text in _texts(dataset):
        if not is_valid_text(text):
            raise UserError(f"text with a lone surrogate (half a character) cannot be written: {short_repr(text)}")


def _is_folder_name(split: str) -> bool:
    """Whether a split is a single path component on any system, not hidden, and not the name of the report."""
    return (
        PurePosixPath(split).name == split == PureWindowsPath(split).name
        and not split.startswith(".")
        and is_valid_text(split)
        and not _CONTROLS.search(split)
        and split not in ("", REPORT_FILE)
    )


def _texts(dataset: RawDataset) -> Iterator[str]:
    for sample in chain.from_iterable(dataset.splits.values()):
        yield from (sample.id, sample.image, sample.phrase, sample.raw)
    for talk in chain.from_iterable(dataset.conversations.values()):
        yield from (talk.id, talk.image, *(turn.text for turn in talk.turns))
    yield from chain.from_iterable(dataset.noticed.values())
