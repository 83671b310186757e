"""Your own data, 1: COCO's instances JSON -> Sample shards, a phrase per object or its category's name.

    sam4mllm data coco --root downloads --out data/coco
    sam4mllm data coco --root my_photos --out data/my_photos

    ROOT/coco/instances.json         one split, `--split` (train); or a file per split: instances_train2017.json,
    ROOT/coco/instances_val2017.json also in annotations, as in COCO; all may be in ROOT itself
    ROOT/coco/images/*.jpg           or `--images`; a file_name is a path below, or below a folder with the split's name
    ROOT/coco/train2017/*.jpg        likewise, without a folder images

Two objects, and their sample:

    {"id": 1038967, "image_id": 9, "category_id": 51, "phrase": "a white bowl", "segmentation": [[499.7, 397.3, ...]]}
    {"id": 1039564, "image_id": 9, "category_id": 51, "phrase": "a white bowl", "segmentation": [[125.4, 22.5, ...]]}

    Sample(id="coco-train-9-1038967", image="000000000009.jpg", phrase="a white bowl", masks=(Rle(...), Rle(...)), ...)

The phrase is an object's "phrase", else its "caption", else the name of its category. Objects of one image with the
same phrase become one sample with several masks. Crowds are masks like others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam4mllm.data.samples import Sample, check_below_root
from sam4mllm.data_prep.formats.instances import POLYGONS_CUT, REPEATED, Instances, read_instances
from sam4mllm.data_prep.formats.safe_io import check_integer, check_text, format_errors_as_user_errors
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.errors import UserError

WITHOUT_OBJECT = "images without an object"


def prepare(root: Path, split: str = "train", images: Path | None = None) -> RawDataset:
    """All samples, by split, in the order of their first objects.

    Args:
        root: contains the folder coco, or is that folder.
        split: split of instances.json; the name of another file gives its split.
        images: contains the images, or folders of them by split, if not below ``root``.

    Raises:
        UserError: if there are no instances, or files are damaged or of another form.
    """
    home = root / "coco" if (root / "coco").is_dir() else root
    files = _find_files(home, split)
    if not files:
        raise UserError(f"no instances in {home}: expected instances.json, or instances_train.json and others like it")
    if images is None:  # without a folder images, COCO's layout: a folder of images per split
        is_by_split = not (home / "images").is_dir() and not _folder_names(home).isdisjoint(files)
        images = home if is_by_split else home / "images"
    noticed: dict[str, list[str]] = {POLYGONS_CUT: [], WITHOUT_OBJECT: [], REPEATED: []}
    folders = _folder_names(images)
    splits = {
        name: _read_split(path, name, f"{name}/" if name in folders else "", noticed) for name, path in files.items()
    }
    return RawDataset("coco", images, splits, noticed=noticed)


def _find_files(home: Path, split: str) -> dict[str, Path]:
    """The files of instances, by split.

    Raises:
        UserError: if two files are of one split.
    """
    paths = [home / "instances.json"] if (home / "instances.json").is_file() else []
    paths += sorted([*home.glob("instances_*.json"), *(home / "annotations").glob("instances_*.json")])
    files: dict[str, Path] = {}
    for path in paths:
        name = split if path.name == "instances.json" else path.stem.removeprefix("instances_")
        if name in files:
            raise UserError(f"{files[name]} and {path} are both of the split {name}: remove one of them")
        files[name] = path
    return files


def _folder_names(path: Path) -> set[str]:
    return {folder.name for folder in path.glob("*/")}


def _read_split(path: Path, split: str, folder: str, noticed: dict[str, list[str]]) -> list[Sample]:
    """The samples of a file; its images are in a ``folder`` of the image root."""
    instances = read_instances(path)
    objects: dict[tuple[int, str], list[int]] = {}
    with format_errors_as_user_errors(path, "COCO"):
        for object_id, annotation in instances.annotations.items():
            objects.setdefault((annotation["image_id"], _phrase(annotation, instances)), []).append(object_id)
        samples = [
            _make_sample(instances, split, folder, phrase, image_id, object_ids)
            for (image_id, phrase), object_ids in objects.items()
        ]
        with_object = {image_id for image_id, _ in objects}
        noticed[WITHOUT_OBJECT] += [
            check_text(image["file_name"])
            for image_id, image in instances.images.items()
            if image_id not in with_object
        ]
    noticed[POLYGONS_CUT] += instances.clipped
    noticed[REPEATED] += instances.duplicates
    return samples


def _make_sample(
    instances: Instances, split: str, folder: str, phrase: str, image_id: int, object_ids: list[int]
) -> Sample:
    image, name = instances.images[image_id], f"coco-{split}-{image_id}-{object_ids[0]}"
    file_name = check_text(image["file_name"])
    check_below_root(file_name, f"sample {name}")
    return Sample(
        id=name,
        image=file_name if file_name.startswith(folder) else f"{folder}{file_name}",
        width=check_integer(image["width"]),
        height=check_integer(image["height"]),
        phrase=phrase,
        masks=tuple(map(instances.mask, object_ids)),
        source="coco",
        split=split,
        raw=phrase,
    )


def _phrase(annotation: Mapping[str, Any], instances: Instances) -> str:
    return check_text(
        annotation.get("phrase") or annotation.get("caption") or instances.categories[annotation["category_id"]]
    )
