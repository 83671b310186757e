"""The leakage guard: which pictures measure somewhere, so that nothing may be learned from them.

RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO share COCO's pictures and split them differently: a picture of one set's val is
in another set's train. Held out are the pictures of every val and test split

- of the set that is being converted,
- of the sets whose refs lie below the same root, split as papers report (unc; umd for RefCOCOg), converted or not,
- of the sets that are converted already, beside each other in one folder.

A picture is known by its COCO id where its name has one (``COCO_train2014_000000520199.jpg``, ``000000520199.jpg``: the
years share their ids), else by where its file lies.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.reading import Reading, is_held_out, pictures
from data_prep.refer import read_refs, splits_of
from sam4mllm import samples, talks
from sam4mllm.errors import UserError

REFS = (
    "refcoco/refs(unc).p",
    "refcoco+/refs(unc).p",
    "refcocog/refs(umd).p",
    "grefcoco/grefs(unc).p",
    "grefcoco/grefs(unc).json",
)
INDICES = (samples.INDEX, talks.INDEX)
_COCO = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.jpg")


def identity(images: Path, image: str) -> str:
    """What two sets call the same picture."""
    named = _COCO.fullmatch(image.rpartition("/")[2])
    return _coco(int(named[1])) if named else os.path.abspath(images / image)  # noqa: PTH100  resolve() asks the disk


def held_out(reading: Reading, root: Path, beside: Iterable[Path]) -> set[str]:
    """The identities of all pictures that nothing may be learned from.

    Args:
        reading: the set that is being converted.
        root: below which its raw files lie, and maybe those of other sets.
        beside: folders of converted sets.

    Raises:
        UserError: for a file that cannot be read: without it the guard would have a hole.
    """
    held = own(reading)
    for path in (root / name for name in REFS):
        is_own = path.parent.name == reading.source and f"({reading.split_by})" in path.name  # read already
        if path.is_file() and not is_own:
            held |= _of_refs(path, path.stat().st_mtime_ns)
    for folder in beside:
        held |= _of_converted(folder)
    return held


def own(reading: Reading) -> set[str]:
    """The identities of the pictures of a set's own val and test splits."""
    asked = (pictures(rows) for split, rows in reading.splits.items() if is_held_out(split))
    said = (pictures(rows) for split, rows in reading.talks.items() if is_held_out(split))
    names = set[str]().union(*asked, *said)
    return {identity(reading.images, name) for name in names}


def pictures_in(folder: Path, index: str) -> tuple[str, list[str]]:
    """Of a samples or talks folder: its image root as noted, and the picture of each row; no more is read.

    Raises:
        UserError: where it is damaged.
    """
    try:
        noted = json.loads((folder / index).read_bytes())
        tables = [pq.read_table(folder / name, columns=["image"]) for name in noted["shards"]]
        return noted["images"], [name for table in tables for name in table.column("image").to_pylist()]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"cannot read what is in {folder}: {' '.join(str(error).split())}; convert it again") from error


def indices(folder: Path) -> Iterator[tuple[Path, str]]:
    """The samples and talks folders of a converted set, each with the name of its index."""
    for index in INDICES:
        yield from ((path.parent, index) for path in sorted(folder.glob(f"*/{index}")))


@lru_cache
def _of_refs(path: Path, changed: int) -> frozenset[str]:  # noqa: ARG001  a file that changed is read again
    held = (ref for ref in read_refs(path) if any(map(is_held_out, splits_of(ref))))
    return frozenset(_coco(ref["image_id"]) for ref in held)


def _of_converted(folder: Path) -> set[str]:
    held = set()
    for part, index in indices(folder):
        if is_held_out(part.name):
            images, names = pictures_in(part, index)
            held |= {identity(part / images, name) for name in set(names)}
    return held


def _coco(number: int) -> str:
    return f"coco:{number}"
