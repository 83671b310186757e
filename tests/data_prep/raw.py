"""Small raw data sets: a square on each image, named like COCO's."""

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILES = {
    "refcoco": "refs(unc).p",
    "refcoco+": "refs(unc).p",
    "refcocog": "refs(umd).p",
    "grefcoco": "grefs(unc).json",
}
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]


def write_files(root: Path, files: Mapping[str, Any]) -> Path:
    """Writes values by path below a root: a .p as a pickle, others as JSON. Returns the root."""
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        packed = pickle.dumps(value, protocol=2) if name.endswith(".p") else json.dumps(value).encode()
        (root / name).write_bytes(packed)
    return root


def instances(numbers: Iterable[int], **annotation) -> dict[str, Any]:
    """COCO's instances: an image and an object for each number."""
    numbers = list(numbers)
    return {
        "images": [{"id": number, "file_name": file(number), "width": 6, "height": 4} for number in numbers],
        "annotations": [{"id": number, "image_id": number, "segmentation": SQUARE, **annotation} for number in numbers],
    }


def write(root: Path, name: str, splits: Mapping[str, list[int]], sentences: int = 2, **annotation) -> Path:
    """Writes a data set in REFER's layout: a ref on each image; ``annotation`` changes the fields of annotations."""
    images = [(split, image) for split, numbers in splits.items() for image in numbers]
    refs = [
        {
            "ref_id": number,
            "ann_id": [image] if name == "grefcoco" else image,
            "image_id": image,
            "split": split,
            "sentences": [
                {"sent_id": sentences * number + each, "sent": f"the {each} square", "raw": f"The {each}", "tokens": []}
                for each in range(sentences)
            ],
        }
        for number, (split, image) in enumerate(images)
    ]
    document = instances(sorted({image for _, image in images}), **annotation)
    return write_files(root, {f"{name}/instances.json": document, f"{name}/{FILES[name]}": refs})


def file(image: int) -> str:
    return f"COCO_train2014_{image:012}.jpg"


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
