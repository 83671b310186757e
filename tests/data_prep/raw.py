"""Small raw sets in REFER's layout: which picture of COCO is in which split, and a square on each."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

FILES = {
    "refcoco": "refs(unc).p",
    "refcoco+": "refs(unc).p",
    "refcocog": "refs(umd).p",
    "grefcoco": "grefs(unc).json",
}
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]


def write(root: Path, name: str, splits: Mapping[str, list[int]], sentences: int = 2, **annotation) -> Path:
    """One ref on each picture, so many sentences on each ref; what annotations have otherwise."""
    pictures = [(split, picture) for split, numbers in splits.items() for picture in numbers]
    refs = [
        {
            "ref_id": number,
            "ann_id": [picture] if name == "grefcoco" else picture,
            "image_id": picture,
            "split": split,
            "sentences": [
                {"sent_id": sentences * number + each, "sent": f"the {each} square", "raw": f"The {each}", "tokens": []}
                for each in range(sentences)
            ],
        }
        for number, (split, picture) in enumerate(pictures)
    ]
    numbers = sorted({picture for _, picture in pictures})
    instances = {
        "images": [{"id": one, "file_name": file(one), "width": 6, "height": 4} for one in numbers],
        "annotations": [{"id": one, "image_id": one, "segmentation": SQUARE, **annotation} for one in numbers],
    }
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(instances))
    packed = json.dumps(refs).encode() if name == "grefcoco" else pickle.dumps(refs, protocol=2)
    (folder / FILES[name]).write_bytes(packed)
    return root


def file(picture: int) -> str:
    return f"COCO_train2014_{picture:012}.jpg"


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
