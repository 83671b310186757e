"""gRefCOCO -> Sample shards, one folder per split: expressions with one target, several, or none.

    sam4mllm data grefcoco --root downloads --out data/grefcoco

    ROOT/grefcoco/grefs(unc).json   or grefs(unc).p; the release of August 2023; both files may be in ROOT itself
    ROOT/grefcoco/instances.json    COCO's
    ROOT/images/train2014/*.jpg

A ref without a target, and its sample. A ref with several `ann_id` gets several masks:

    {"ref_id": 9, "ann_id": [-1], "category_id": [-1], "image_id": 154, "split": "val", "sent_ids": [25],
     "file_name": "COCO_train2014_000000000154.jpg",
     "sentences": [{"sent_id": 25, "sent": "the book on the left", "raw": "the book on the left", "tokens": [...]}]}

    Sample(id="grefcoco-unc-9-25", image="train2014/COCO_train2014_000000000154.jpg", phrase="the book on the left",
           masks=(), source="grefcoco", split="val", ...)

Source: henghuiding/gRefCOCO (`grefer.py`). Crowds among several objects do not count. The file name is the image's,
since the file name of a ref may end in a number.
"""

from __future__ import annotations

from pathlib import Path

from sam4mllm.data_prep.formats.refer import image_root, read_refer
from sam4mllm.data_prep.raw_dataset import RawDataset


def prepare(root: Path, images: Path | None = None) -> RawDataset:
    """All samples, by split, in the order of the refs. As in the official reader, a pickle is read before a JSON file.

    Args:
        root: contains the folder grefcoco, or is that folder.
        images: contains train2014, if that is not below ``root``.

    Raises:
        UserError: for files that are missing, damaged or of another form.
    """
    home = root / "grefcoco" if (root / "grefcoco").is_dir() else root
    pickled = home / "grefs(unc).p"
    refs_file = pickled if pickled.is_file() else home / "grefs(unc).json"
    return read_refer("grefcoco", "unc", refs_file, images or image_root(root))
