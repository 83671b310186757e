"""RefCOCO, RefCOCO+ and RefCOCOg in REFER's layout -> Sample shards, one folder per split.

    sam4mllm data refcoco --root downloads --out data/refcoco
    sam4mllm data refcoco+ --root downloads --out data/refcoco+

One sentence of RefCOCO (unc), and the sample that it becomes; `formats.refer` shows the files:

    {"sent_id": 15215, "sent": "pink shirt", "raw": "pink shirt", "tokens": ["pink", "shirt"]}   in ref 5342, split val

    Sample(id="refcoco-unc-5342-15215", image="train2014/COCO_train2014_000000520199.jpg", phrase="pink shirt",
           raw="pink shirt", masks=(Rle(...),), source="refcoco", split="val", ...)

Every sentence of every ref counts. As in REFER, a split "testAB" belongs to testA and to testB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sam4mllm.data_prep.formats.refer import image_root, read_refer
from sam4mllm.data_prep.reading import Reading
from sam4mllm.errors import UserError

# whose splits each set comes with, the one that papers report first
SPLIT_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
)


def prepare(root: Path, dataset: str, split_by: str | None = None, images: Path | None = None) -> Reading:
    """All samples of one set, by split, in the order of the refs.

    Args:
        root: holds the set's folder.
        dataset: a key of `SPLIT_BY`.
        split_by: one of its values; the first by default.
        images: holds train2014, if that is not below ``root``.

    Raises:
        UserError: for an unknown set or split-by, and for files that are missing, damaged or of another form.
    """
    if dataset not in SPLIT_BY:
        raise UserError(f"there is no set {dataset!r} here: choose one of {', '.join(SPLIT_BY)}")
    split_by = split_by or SPLIT_BY[dataset][0]
    if split_by not in SPLIT_BY[dataset]:
        raise UserError(f"{dataset} is not split by {split_by!r}: choose one of {', '.join(SPLIT_BY[dataset])}")
    return read_refer(dataset, split_by, refs_file(root, dataset, split_by), images or image_root(root))


def refs_file(root: Path, dataset: str, split_by: str) -> Path:
    """Where a set's refs lie."""
    return root / dataset / f"refs({split_by}).p"
