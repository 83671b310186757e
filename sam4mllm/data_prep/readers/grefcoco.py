"""gRefCOCO -> Sample shards, one folder per split: expressions that mean one object, several, or none.

    sam4mllm data grefcoco --root downloads --out data/grefcoco

    ROOT/grefcoco/grefs(unc).json   or grefs(unc).p; as released again in August 2023; both may lie in ROOT itself
    ROOT/grefcoco/instances.json    COCO's
    ROOT/images/train2014/*.jpg

One ref that means nothing in its picture, and the sample that it becomes; several `ann_id` are several masks:

    {"ref_id": 9, "ann_id": [-1], "category_id": [-1], "image_id": 154, "split": "val", "sent_ids": [25],
     "file_name": "COCO_train2014_000000000154.jpg",
     "sentences": [{"sent_id": 25, "sent": "the book on the left", "raw": "the book on the left", "tokens": [...]}]}

    Sample(id="grefcoco-unc-9-25", image="train2014/COCO_train2014_000000000154.jpg", phrase="the book on the left",
           masks=(), source="grefcoco", split="val", ...)

Source: henghuiding/gRefCOCO (`grefer.py`): crowds among several objects do not count; an object's own picture file
name is used, for that of a ref may end in a number.
"""

from __future__ import annotations

from pathlib import Path

from sam4mllm.data_prep.formats.refer import image_root, read_refer
from sam4mllm.data_prep.reading import Reading

SPLIT_BY = "unc"


def prepare(root: Path, images: Path | None = None) -> Reading:
    """All samples, by split, in the order of the refs.

    Args:
        root: holds the folder grefcoco, or is it.
        images: holds train2014, if that is not below ``root``.

    Raises:
        UserError: for files that are missing, damaged or of another form.
    """
    return read_refer("grefcoco", SPLIT_BY, refs_file(root), images or image_root(root))


def refs_file(root: Path) -> Path:
    """Where the refs lie: the pickle where there is one, as in the official reader, else the JSON file."""
    home = root / "grefcoco" if (root / "grefcoco").is_dir() else root
    pickled = home / f"grefs({SPLIT_BY}).p"
    return pickled if pickled.is_file() else pickled.with_suffix(".json")
