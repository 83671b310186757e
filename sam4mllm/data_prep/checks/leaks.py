"""The leakage guard: which pictures measure somewhere, so that nothing may be learned from them.

RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO share COCO's pictures and split them differently: a picture of one set's val is
in another set's train. Held out are the pictures of every split that is not for training

- of the set that is being converted,
- of the sets whose refs lie below the same root, split as papers report (unc; umd for RefCOCOg), converted or not,
- of the sets that are converted already, beside each other in one folder.

A picture is known by its COCO id where its name, or that of the file that it is a link to, has one
(``COCO_train2014_000000520199.jpg``, ``000000520199.png``: the years share their ids), else by where its file lies,
all links followed.
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

from sam4mllm.data import conversations, samples
from sam4mllm.data_prep.formats.refer import read_refs, splits_of
from sam4mllm.data_prep.reading import Reading, is_training, pictures
from sam4mllm.errors import UserError

REFS = (
    "refcoco/refs(unc).p",
    "refcoco+/refs(unc).p",
    "refcocog/refs(umd).p",
    "grefcoco/grefs(unc).p",
    "grefcoco/grefs(unc).json",
    "grefs(unc).p",  # where the root is gRefCOCO's own folder
    "grefs(unc).json",
)
INDICES = (samples.INDEX, conversations.INDEX)
_COCO = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.\w+", re.IGNORECASE)


def identities(images: Path, names: Iterable[str]) -> dict[str, str]:
    """What any two sets would call the same: for each picture below an image root."""
    folders: dict[str, Path] = {}
    return {name: _coco(name) or _place(images, name, folders) for name in names}


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
    """The identities of the pictures of a set's own splits that measure."""
    asked = (pictures(rows) for split, rows in reading.splits.items() if not is_training(split))
    said = (pictures(rows) for split, rows in reading.talks.items() if not is_training(split))
    names = set[str]().union(*asked, *said)
    return set(identities(reading.images, names).values())


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
    held = (ref for ref in read_refs(path) if not all(map(is_training, splits_of(ref))))
    return frozenset(_of_number(ref["image_id"]) for ref in held)


def _of_converted(folder: Path) -> set[str]:
    held = set()
    for part, index in indices(folder):
        if not is_training(part.name):
            images, names = pictures_in(part, index)
            held |= set(identities(part / images, set(names)).values())
    return held


def _coco(name: str) -> str | None:
    named = _COCO.fullmatch(name.rpartition("/")[2])
    return _of_number(int(named[1])) if named else None


def _place(images: Path, name: str, folders: dict[str, Path]) -> str:
    """Where a file lies, or the COCO id of what it is a link to; of a folder the disk is asked once for its place."""
    folder, _, own = name.rpartition("/")
    if folder not in folders:
        folders[folder] = (images / folder).resolve()
    place = folders[folder] / own
    if not place.is_symlink():
        return str(place)
    target = os.path.realpath(place)  # resolve() raises where links go round in a circle
    return _coco(target) or target


def _of_number(number: int) -> str:
    return f"coco:{number}"
