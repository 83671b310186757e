"""COCO's instances: pictures, and objects with their masks, by id.

    {"images": [{"id": 520199, "file_name": "COCO_train2014_000000520199.jpg", "width": 640, "height": 480}],
     "annotations": [{"id": 426093, "image_id": 520199, "category_id": 1, "iscrowd": 0,
                      "segmentation": [[281.0, 470.5, 552.1, 115.2, ...]]}],
     "categories": [{"id": 1, "name": "person"}]}

A mask is painted once, however many sentences ask for it, and never decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from sam4mllm.data_prep.formats.plain import as_text, as_whole, read_json
from sam4mllm.data_prep.formats.points import leave
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle

TWICE = "images, annotations or categories that come twice, word for word"


@dataclass(frozen=True, slots=True)
class Instances:
    """The pictures, objects and categories of a file, by id, as the file has them.

    Attributes:
        images: the pictures.
        annotations: the objects.
        categories: their names; empty where the file has none.
        twice: what comes more than once, word for word, and counts once.
        beyond: which of the objects painted so far have a polygon that leaves the picture; it is cut at the edge.
    """

    images: Mapping[int, Any]
    annotations: Mapping[int, Any]
    categories: Mapping[int, str]
    twice: Sequence[str] = ()
    beyond: list[int] = field(default_factory=list)
    _painted: dict[int, Rle] = field(default_factory=dict)

    def mask(self, annotation_id: int) -> Rle:
        """An object's mask, of its picture's size; the same value each time.

        Raises:
            UserError: for polygons or runs that no mask can have.
            KeyError: for an object or picture that is not there, or lacks a field of COCO's.
            TypeError: for a size that is no number.
        """
        if annotation_id not in self._painted:
            annotation = self.annotations[annotation_id]
            image = self.images[annotation["image_id"]]
            segmentation, size = annotation["segmentation"], (as_whole(image["height"]), as_whole(image["width"]))
            self._painted[annotation_id] = Rle.from_coco(segmentation, *size)
            if isinstance(segmentation, list) and any(leave(each[::2], each[1::2], *size) for each in segmentation):
                self.beyond.append(annotation_id)
        return self._painted[annotation_id]


def read_instances(path: Path) -> Instances:
    """The instances of a file.

    Raises:
        UserError: for a file that is missing, damaged, or of another form, and for an id that two different ones have.
    """
    document = read_json(path)
    twice: list[str] = []
    try:
        return Instances(
            images=_by_id(document["images"], "image", twice),
            annotations=_by_id(document["annotations"], "annotation", twice),
            categories={
                one: as_text(category["name"])
                for one, category in _by_id(document.get("categories", []), "category", twice).items()
            },
            twice=twice,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not of COCO's form: {type(error).__name__}: {error}") from error


def _by_id(rows: Any, what: str, twice: list[str]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for row in rows:
        if found.setdefault(row["id"], row) is row:
            continue
        if found[row["id"]] != row:
            raise UserError(f"two different ones are {what} {shown(row['id'])}")
        twice.append(f"{what} {shown(row['id'])}")
    return found
