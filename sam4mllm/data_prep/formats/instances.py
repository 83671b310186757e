"""COCO's instances: images, and objects with their masks, by id.

    {"images": [{"id": 520199, "file_name": "COCO_train2014_000000520199.jpg", "width": 640, "height": 480}],
     "annotations": [{"id": 426093, "image_id": 520199, "category_id": 1, "iscrowd": 0,
                      "segmentation": [[281.0, 470.5, 552.1, 115.2, ...]]}],
     "categories": [{"id": 1, "name": "person"}]}

Each mask is encoded once, however many sentences refer to it, and never decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from sam4mllm.data_prep.formats.points import is_outside
from sam4mllm.data_prep.formats.safe_io import check_integer, check_text, format_errors_as_user_errors, read_json
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle

REPEATED = "exact duplicates of images, annotations or categories"
POLYGONS_CUT = "polygons beyond the image, cut at its edge"


@dataclass(frozen=True, slots=True)
class Instances:
    """The images, objects and categories of a file, by id.

    Attributes:
        images: the images.
        annotations: the objects.
        categories: names of the categories; empty if the file has none.
        duplicates: entries that occur more than once, with the same content; each counts once.
        clipped: the annotations encoded so far that have a polygon clipped to the image.
    """

    images: Mapping[int, Any]
    annotations: Mapping[int, Any]
    categories: Mapping[int, str]
    duplicates: Sequence[str] = ()
    clipped: list[str] = field(default_factory=list)
    _masks: dict[int, Rle] = field(default_factory=dict)

    def mask(self, annotation_id: int) -> Rle:
        """The mask of an object, at its image's size; cached.

        Raises:
            UserError: if the object or its image does not exist, or lacks a valid field.
        """
        if annotation_id not in self._masks:
            with format_errors_as_user_errors(f"annotation {short_repr(annotation_id)}", "COCO"):
                annotation = self.annotations[annotation_id]
                image = self.images[annotation["image_id"]]
                segmentation = annotation["segmentation"]
                size = check_integer(image["height"]), check_integer(image["width"])
                self._masks[annotation_id] = Rle.from_coco(segmentation, *size)
                polygons = segmentation if isinstance(segmentation, list) else []
                if any(is_outside(polygon[::2], polygon[1::2], *size) for polygon in polygons):
                    self.clipped.append(f"annotation {annotation_id}")
        return self._masks[annotation_id]


def read_instances(path: Path) -> Instances:
    """The instances of a file.

    Raises:
        UserError: if the file is missing, damaged or not COCO instances JSON, or if two different entries have the
            same id.
    """
    document = read_json(path)
    duplicates: list[str] = []
    with format_errors_as_user_errors(path, "COCO"):
        categories = _by_id(document.get("categories", []), "category", duplicates)
        return Instances(
            images=_by_id(document["images"], "image", duplicates),
            annotations=_by_id(document["annotations"], "annotation", duplicates),
            categories={category_id: check_text(category["name"]) for category_id, category in categories.items()},
            duplicates=duplicates,
        )


def _by_id(rows: Any, kind: str, duplicates: list[str]) -> dict[int, Any]:
    by_id: dict[int, Any] = {}
    for row in rows:
        if by_id.setdefault(row["id"], row) is row:
            continue
        if by_id[row["id"]] != row:
            raise UserError(f"{kind} id {short_repr(row['id'])} is used by two different entries")
        duplicates.append(f"{kind} {short_repr(row['id'])}")
    return by_id
