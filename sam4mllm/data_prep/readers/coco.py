"""Your own data, 1: COCO's instances JSON -> Sample shards, a phrase per object or its category's name.

    sam4mllm data coco --root downloads --out data/coco
    sam4mllm data coco --root my_photos --out data/my_photos

    ROOT/coco/instances.json         one split, `--split` (train); or a file per split: instances_train2017.json,
    ROOT/coco/instances_val2017.json also in annotations, as COCO has it; all may lie in ROOT itself
    ROOT/coco/images/*.jpg           or `--images`; a file_name is a path below, or below a folder of its split's name
    ROOT/coco/train2017/*.jpg        likewise, where there is no images

Two objects, and the sample that they become:

    {"id": 1038967, "image_id": 9, "category_id": 51, "phrase": "a white bowl", "segmentation": [[499.7, 397.3, ...]]}
    {"id": 1039564, "image_id": 9, "category_id": 51, "phrase": "a white bowl", "segmentation": [[125.4, 22.5, ...]]}

    Sample(id="coco-train-9-1038967", image="000000000009.jpg", phrase="a white bowl", masks=(Rle(...), Rle(...)), ...)

The words are an object's "phrase", else its "caption", else the name of its category. Objects of one picture with the
same words are what those words mean: one sample of several masks. Crowds are masks like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from sam4mllm.data.samples import Sample, check_below_root
from sam4mllm.data_prep.formats.instances import TWICE, Instances, read_instances
from sam4mllm.data_prep.formats.plain import as_text, as_whole
from sam4mllm.data_prep.reading import Reading
from sam4mllm.errors import UserError

PHRASES = ("phrase", "caption")


def prepare(root: Path, split: str = "train", images: Path | None = None) -> Reading:
    """All samples, by split, in the order of their first objects.

    Args:
        root: holds the folder coco, or is it.
        split: of instances.json, whose name does not say.
        images: holds the pictures, or folders of them by split, if not below ``root``.

    Raises:
        UserError: where there are no instances, and for files that are damaged or of another form.
    """
    home = root / "coco" if (root / "coco").is_dir() else root
    found = files(home, split)
    if not found:
        raise UserError(f"no instances in {home}: instances.json is due, or instances_train.json and others like it")
    place = images or _image_root(home, found)
    folders = _folders(place)
    noticed: dict[str, list[str]] = {
        "polygons that leave the picture, cut at its edge": [],
        "pictures of no object": [],
        TWICE: [],
    }
    splits = {
        name: _samples(path, name, f"{name}/" if name in folders else "", noticed) for name, path in found.items()
    }
    return Reading("coco", place, splits, noticed=noticed)


def files(root: Path, split: str = "train") -> dict[str, Path]:
    """The instances that are there, by split.

    Raises:
        UserError: naming both, for two files of one split.
    """
    one = root / "instances.json"
    found = [(split, one)] if one.is_file() else []
    for path in sorted([*root.glob("instances_*.json"), *(root / "annotations").glob("instances_*.json")]):
        found.append((path.stem.removeprefix("instances_"), path))
    by_split: dict[str, Path] = {}
    for name, path in found:
        if name in by_split:
            raise UserError(f"{by_split[name]} and {path} are both of the split {name}: leave one of them")
        by_split[name] = path
    return by_split


def _image_root(home: Path, splits: Iterable[str]) -> Path:
    """The folder images; without it what holds a folder of pictures for each split, as COCO has it."""
    is_cocos = not (home / "images").is_dir() and not _folders(home).isdisjoint(splits)
    return home if is_cocos else home / "images"


def _folders(place: Path) -> set[str]:
    return {path.name for path in place.glob("*/")}


def _samples(path: Path, split: str, below: str, noticed: dict[str, list[str]]) -> list[Sample]:
    """The samples of a file; its pictures lie ``below`` a folder of the image root."""
    instances = read_instances(path)
    try:
        meant: dict[tuple[int, str], list[int]] = {}
        for one, annotation in instances.annotations.items():
            meant.setdefault((annotation["image_id"], _words(annotation, instances)), []).append(one)
        samples = [_sample(instances, split, below, words, image, ids) for (image, words), ids in meant.items()]
        asked = {image for image, _ in meant}
        bare = [as_text(image["file_name"]) for one, image in instances.images.items() if one not in asked]
    except KeyError as error:
        raise UserError(f"{path} lacks what its annotations speak of: {error}") from error
    except (TypeError, UserError) as error:
        raise UserError(f"{path}: {error}") from error
    noticed["polygons that leave the picture, cut at its edge"] += [f"annotation {one}" for one in instances.beyond]
    noticed["pictures of no object"] += bare
    noticed[TWICE] += instances.twice
    return samples


def _sample(instances: Instances, split: str, below: str, words: str, image_id: int, ids: list[int]) -> Sample:
    image, name = instances.images[image_id], f"coco-{split}-{image_id}-{ids[0]}"
    file = as_text(image["file_name"])
    check_below_root(file, f"sample {name}")
    return Sample(
        id=name,
        image=file if file.startswith(below) else f"{below}{file}",
        width=as_whole(image["width"]),
        height=as_whole(image["height"]),
        phrase=words,
        masks=tuple(_mask(instances, one) for one in ids),
        source="coco",
        split=split,
        raw=words,
    )


def _mask(instances: Instances, one: int) -> Any:
    try:
        return instances.mask(one)
    except UserError as error:
        raise UserError(f"annotation {shown(one)}: {error}") from error


def _words(annotation: Mapping[str, Any], instances: Instances) -> str:
    given = next((annotation[key] for key in PHRASES if annotation.get(key)), None)
    words = instances.categories[annotation["category_id"]] if given is None else given
    return as_text(words)
