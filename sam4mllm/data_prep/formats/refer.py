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

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.formats.instances import TWICE, Instances, read_instances
from sam4mllm.data_prep.formats.plain import as_text, as_whole, read_json, read_pickle
from sam4mllm.data_prep.reading import Reading
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle

PICTURES = "train2014"  # all of these sets are made of COCO's pictures of 2014
NO_TARGET = [-1]  # what gRefCOCO has for annotations where the words mean nothing in the picture


def read_refer(source: str, split_by: str, refs_file: Path, images: Path) -> Reading:
    """A set in REFER's layout: its refs, and the instances beside them.

    Raises:
        UserError: for files that are missing, damaged, of another form, or of two different sets.
    """
    refs = read_refs(refs_file)
    instances = read_instances(refs_file.parent / "instances.json")
    _check_one_set(refs, instances, refs_file.parent / "instances.json")
    splits: dict[str, list[Sample]] = {}
    counts = Counter[str]()
    try:
        for ref in refs:
            for split in splits_of(ref):
                counts[split] += 1
                splits.setdefault(split, []).extend(samples_of(ref, instances, source, split_by, split))
    except UserError as error:
        raise UserError(f"{refs_file}: {error}") from error
    noticed = {
        "refs without a sentence": [_name(ref) for ref in refs if not ref["sentences"]],
        "refs of which a crowd or a repeated object is left out": [_name(ref) for ref in refs if _less(ref, instances)],
        "polygons that leave the picture, cut at its edge": [f"annotation {one}" for one in instances.beyond],
        TWICE: instances.twice,
    }
    return Reading(source, images, splits, split_by, dict(counts), noticed=noticed)


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The refs of a pickle or a JSON file, which runs no code: foreign data is not trusted.

    Raises:
        UserError: for a file that is missing, damaged, or holds anything but plain values, and for a ref whose split
            or picture is none.
    """
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in path.parent.glob("*refs(*)*"))) or "no refs at all"
        raise UserError(f"no such file: {path}; {path.parent} has {there}")
    refs = read_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise UserError(f"{path} holds no refs: a list of dictionaries is due")
    for ref in refs:
        try:
            splits_of(ref)
            as_whole(ref["image_id"])
        except UserError as error:
            raise UserError(f"{path}: {_name(ref)}: {error}") from error
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: {_name(ref)} is not as REFER has it: {type(error).__name__}: {error}") from error
    return refs


def image_root(root: Path) -> Path:
    """The folder that holds train2014, in either of the two places that are in use."""
    places = (root / "images", root / "images" / "mscoco" / "images")
    return next((place for place in places if (place / PICTURES).is_dir()), places[0])


def splits_of(ref: Mapping[str, Any]) -> list[str]:
    """The splits that a ref's word puts it in: as in REFER, a split "testAB" belongs to testA and to testB.

    Raises:
        UserError: for a word that REFER does not know.
    """
    split = ref.get("split")
    if split in ("train", "val", "test"):
        return [split]
    letters = split.removeprefix("test") if isinstance(split, str) else ""
    if letters and letters != split and set(letters) <= set("ABC"):
        return [f"test{letter}" for letter in letters]
    raise UserError(f"it has the split {shown(split)}, and train, val, test and testA, testB, testC are known")


def samples_of(ref: Mapping[str, Any], instances: Instances, source: str, split_by: str, split: str) -> list[Sample]:
    """One sample per sentence of a ref: the words as REFER cleaned them (``sent``), and as they were (``raw``).

    Raises:
        UserError: naming the ref, where it is of another form.
    """
    try:
        image = instances.images[ref["image_id"]]
        masks = _masks(ref, instances)
        return [
            Sample(
                id=f"{source}-{split_by}-{ref['ref_id']}-{sentence['sent_id']}",
                image=f"{PICTURES}/{as_text(image['file_name'])}",
                width=as_whole(image["width"]),
                height=as_whole(image["height"]),
                phrase=as_text(sentence["sent"]),
                masks=masks,
                source=source,
                split=split,
                raw=as_text(sentence["raw"]),
            )
            for sentence in ref["sentences"]
        ]
    except UserError as error:
        raise UserError(f"{_name(ref)}: {error}") from error
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{_name(ref)} is not as REFER has it: {reason}") from error


def _masks(ref: Mapping[str, Any], instances: Instances) -> tuple[Rle, ...]:
    return tuple(instances.mask(one) for one in _objects(_annotations(ref), instances))


def _annotations(ref: Mapping[str, Any]) -> list[int]:
    """The ids of what a ref means: REFER's sets have one, gRefCOCO a list of any number, or -1 for none."""
    found = ref["ann_id"]
    several = found if isinstance(found, list) else [found]
    return [] if several == NO_TARGET else several


def _objects(ids: Sequence[int], instances: Instances) -> list[int]:
    """Each object once, in order. Among several, crowds do not count, as gRefCOCO's own reader has it."""
    once = list(dict.fromkeys(ids))
    return [one for one in once if not instances.annotations[one].get("iscrowd")] or once


def _less(ref: Mapping[str, Any], instances: Instances) -> bool:
    return len(_objects(_annotations(ref), instances)) < len(_annotations(ref))


def _name(ref: Mapping[str, Any]) -> str:
    return f"ref {shown(ref.get('ref_id'))}"


def _check_one_set(refs: Sequence[Mapping[str, Any]], instances: Instances, path: Path) -> None:
    """Make sure that all pictures and objects that refs speak of are in the instances, and go together.

    Raises:
        UserError: saying how many are not.
    """
    try:
        strangers = [ref for ref in refs if not _known(ref, instances)]
    except (KeyError, TypeError) as error:
        raise UserError(f"the refs beside {path} are not as REFER has them: {type(error).__name__}: {error}") from error
    if strangers:
        first = strangers[0]
        raise UserError(
            f"{path} is of another data set or a part of it: {len(strangers)} of {len(refs)} refs speak of pictures or"
            f" annotations that it does not have, the first is ref {shown(first.get('ref_id'))}: picture"
            f" {shown(first['image_id'])}, annotation {shown(first['ann_id'])}"
        )


def _known(ref: Mapping[str, Any], instances: Instances) -> bool:
    found = [instances.annotations.get(one) for one in _annotations(ref)]
    return ref["image_id"] in instances.images and all(
        one is not None and one["image_id"] == ref["image_id"] for one in found
    )
