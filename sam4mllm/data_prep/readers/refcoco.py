"""RefCOCO, RefCOCO+ and RefCOCOg in REFER's layout -> Sample shards, one folder per split.

    sam4mllm data refcoco --root downloads --out data/refcoco
    sam4mllm data refcoco+ --root downloads --out data/refcoco+

A sentence of RefCOCO (unc), and its sample; `formats.refer` shows the files:

    {"sent_id": 15215, "sent": "pink shirt", "raw": "pink shirt", "tokens": ["pink", "shirt"]}   in ref 5342, split val

    Sample(id="refcoco-unc-5342-15215", image="train2014/COCO_train2014_000000520199.jpg", phrase="pink shirt",
           raw="pink shirt", masks=(Rle(...),), source="refcoco", split="val", ...)

Every sentence of every ref becomes a sample. As in REFER, a split "testAB" belongs to testA and to testB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sam4mllm.data_prep.formats.refer import image_root, read_refer
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.errors import UserError

# the splits that each data set comes with; first those that papers report
SPLIT_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
)


def prepare(root: Path, dataset: str, split_by: str | None = None, images: Path | None = None) -> RawDataset:
    """All samples of one data set, by split, in the order of the refs.

    Args:
        root: contains the folder of the data set.
        dataset: a key of `SPLIT_BY`.
        split_by: one of its values; the first by default.
        images: contains train2014, if that is not below ``root``.

    Raises:
        UserError: for an unknown data set or split-by, and for files that are missing, damaged or of another form.
    """
    if dataset not in SPLIT_BY:
        raise UserError(f"unknown data set {dataset!r}: choose one of {', '.join(SPLIT_BY)}")
    split_by = split_by or SPLIT_BY[dataset][0]
    if split_by not in SPLIT_BY[dataset]:
        raise UserError(f"{dataset} is not split by {split_by!r}: choose one of {', '.join(SPLIT_BY[dataset])}")
    return read_refer(dataset, split_by, root / dataset / f"refs({split_by}).p", images or image_root(root))
