"""REFER's layout, shared by the sets that come in it: refs beside COCO's instances, pictures in COCO's folders.

    ROOT/refcoco/refs(unc).p       a pickle of a list of refs
    ROOT/refcoco/instances.json    COCO's: images, annotations
    ROOT/images/train2014/*.jpg    or ROOT/images/mscoco/images/train2014, as REFER's own README has it

One ref, several sentences about one annotation:

    {"ref_id": 5342, "ann_id": 426093, "image_id": 520199, "split": "val", "category_id": 1, "sent_ids": [15214, 15215],
     "file_name": "COCO_train2014_000000520199_8.jpg",
     "sentences": [{"sent_id": 15215, "sent": "pink shirt", "raw": "pink shirt", "tokens": ["pink", "shirt"]}, ...]}

Source: lichengunc/refer (`refer.py`). Knows nothing of any one set's splits and names.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sam4mllm.errors import UserError
from sam4mllm.rle import Rle
from sam4mllm.samples import Sample

PICTURES = "train2014"  # all of these sets are made of COCO's pictures of 2014


@dataclass(frozen=True, slots=True)
class Instances:
    """COCO's pictures and objects, by id, as the file has them."""

    images: Mapping[int, Any]
    annotations: Mapping[int, Any]


class _Plain(pickle.Unpickler):
    """Reads lists, dictionaries, numbers and text; whatever else a pickle could name is refused, not imported."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise UserError(f"it names {module_name}.{global_name}, and refs hold plain lists, numbers and text alone")


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The refs of a pickle, which runs no code: foreign data is not trusted.

    Raises:
        UserError: for a file that is missing, damaged, or holds anything but plain values.
    """
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in path.parent.glob("refs(*).p"))) or "no refs at all"
        raise UserError(f"no such file: {path}; {path.parent} has {there}")
    try:
        with path.open("rb") as file:
            refs = _Plain(file, encoding="utf-8").load()
    except Exception as error:  # damage makes the unpickler stumble in a dozen ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the refs {path}: {reason}") from error
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise UserError(f"{path} holds no refs: a list of dictionaries is due")
    return refs


def read_instances(path: Path) -> Instances:
    """COCO's instances.

    Raises:
        UserError: for a file that is missing, damaged, or of another form.
    """
    try:
        document = json.loads(path.read_bytes())
        return Instances(
            images={image["id"]: image for image in document["images"]},
            annotations={annotation["id"]: annotation for annotation in document["annotations"]},
        )
    except OSError as error:
        raise UserError(f"cannot read the instances {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not of COCO's form: {type(error).__name__}: {error}") from error


def image_root(root: Path) -> Path:
    """The folder that holds train2014, in either of the two places that are in use."""
    places = (root / "images", root / "images" / "mscoco" / "images")
    return next((place for place in places if (place / PICTURES).is_dir()), places[0])


def samples_of(ref: Mapping[str, Any], instances: Instances, source: str, split_by: str, split: str) -> list[Sample]:
    """One sample per sentence of a ref: the words as REFER cleaned them (``sent``), and as they were (``raw``).

    Raises:
        UserError: naming the ref, where it is of another form or speaks of what the instances do not have.
    """
    try:
        image = instances.images[ref["image_id"]]
        annotation = instances.annotations[ref["ann_id"]]
        mask = Rle.from_coco(annotation["segmentation"], image["height"], image["width"])
        return [
            Sample(
                id=f"{source}-{split_by}-{ref['ref_id']}-{sentence['sent_id']}",
                image=f"{PICTURES}/{image['file_name']}",
                width=image["width"],
                height=image["height"],
                phrase=_text(sentence["sent"]),
                masks=(mask,),
                source=source,
                split=split,
                raw=_text(sentence["raw"]),
            )
            for sentence in ref["sentences"]
        ]
    except UserError as error:
        raise UserError(f"ref {ref.get('ref_id')}: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"ref {ref.get('ref_id')} is not as REFER has it: {type(error).__name__}: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"words are text, got {value!r:.60}")
    return value
