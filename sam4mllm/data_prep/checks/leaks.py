"""The leak guard: finds images of evaluation splits, which must not be trained on.

RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO share COCO's images and split them differently, so an image in the val split of
one data set is in the training split of another. The images of these evaluation splits are held out:

- of the data set that is being converted,
- of the data sets with refs below the same root, in the splits that papers report (unc; umd for RefCOCOg),
- of the converted data sets in the sibling folders.

An image is identified by its COCO id if its file name (or, for a link, that of the target) contains one
(``COCO_train2014_000000520199.jpg``, ``000000520199.png``: ids are shared between years). Otherwise it is identified by
its path, with all links resolved.
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
from sam4mllm.data_prep.formats.refer import parse_splits, read_refs
from sam4mllm.data_prep.raw_dataset import RawDataset, image_names, is_training
from sam4mllm.data_prep.sources import SOURCES
from sam4mllm.errors import UserError

REFS = [path for name in ("refcoco", "refcoco+", "refcocog", "grefcoco") for path in SOURCES[name].needs[0]]
_COCO = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.\w+", re.IGNORECASE)


def find_image_ids(images: Path, names: Iterable[str]) -> dict[str, str]:
    """An id for each image name below an image root. Two names of the same image have the same id."""
    resolve_folder = lru_cache(None)(lambda folder: (images / folder).resolve())
    ids = {}
    for name in names:
        folder, _, file_name = name.rpartition("/")
        ids[name] = _coco_id(file_name) or _resolve_link(resolve_folder(folder) / file_name)
    return ids


def find_held_out_ids(dataset: RawDataset, root: Path, siblings: Iterable[Path]) -> set[str]:
    """The ids of all images that must not be trained on.

    Args:
        dataset: the data set that is being converted.
        root: folder of the raw files of this data set, and possibly of others.
        siblings: folders of other converted data sets.

    Raises:
        UserError: if a file cannot be read, since its images could not be held out.
    """
    ids = find_evaluation_ids(dataset)
    for path in (root / name for name in REFS):
        is_own = path.parent.name == dataset.source and f"({dataset.split_by})" in path.name
        if path.is_file() and not is_own:
            ids |= _read_ids_of_refs(path, path.stat().st_mtime_ns)
    for split_folder, index in (part for folder in siblings for part in find_indices(folder)):
        if not is_training(split_folder.name):
            images, names = read_image_names(split_folder, index)
            ids |= set(find_image_ids(split_folder / images, set(names)).values())
    return ids


def find_evaluation_ids(dataset: RawDataset) -> set[str]:
    """The ids of the images in the evaluation splits of a data set."""
    names = set[str]().union(*(image_names(rows) for split, rows in dataset.all_splits if not is_training(split)))
    return set(find_image_ids(dataset.images, names).values())


def read_image_names(folder: Path, index: str) -> tuple[str, list[str]]:
    """The image root of a folder of samples or conversations, and the image name of each row.

    Raises:
        UserError: if the folder is damaged.
    """
    try:
        content = json.loads((folder / index).read_bytes())
        tables = [pq.read_table(folder / name, columns=["image"]) for name in content["shards"]]
        return content["images"], [name for table in tables for name in table.column("image").to_pylist()]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(
            f"cannot read the rows in {folder}: {' '.join(str(error).split())}; convert it again"
        ) from error


def find_indices(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folders of samples and conversations of a converted data set, with the names of their index files."""
    for index in (samples.INDEX, conversations.INDEX):
        yield from ((path.parent, index) for path in sorted(folder.glob(f"*/{index}")))


@lru_cache
def _read_ids_of_refs(path: Path, modified: int) -> frozenset[str]:  # noqa: ARG001  a modified file is read again
    refs = (ref for ref in read_refs(path) if not all(map(is_training, parse_splits(ref))))
    return frozenset(_format_id(ref["image_id"]) for ref in refs)


def _coco_id(file_name: str) -> str | None:
    match = _COCO.fullmatch(file_name)
    return _format_id(int(match[1])) if match else None


def _resolve_link(path: Path) -> str:
    """The path; for a link, the COCO id or, without one, the path of its target. The folder is already resolved."""
    if not path.is_symlink():
        return str(path)
    target = os.path.realpath(path)  # resolve() raises if links form a circle
    return _coco_id(Path(target).name) or target


def _format_id(number: int) -> str:
    return f"coco:{number}"
