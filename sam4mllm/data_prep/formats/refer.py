"""REFER's layout, which several data sets share: refs, COCO's instances, and COCO's images.

    ROOT/refcoco/refs(unc).p       a pickle of a list of refs
    ROOT/refcoco/instances.json    COCO's images and annotations
    ROOT/images/train2014/*.jpg    or ROOT/images/mscoco/images/train2014, as in REFER's README

A ref has one or more sentences about one annotation:

    {"ref_id": 5342, "ann_id": 426093, "image_id": 520199, "split": "val", "category_id": 1, "sent_ids": [15214, 15215],
     "file_name": "COCO_train2014_000000520199_8.jpg",
     "sentences": [{"sent_id": 15215, "sent": "pink shirt", "raw": "pink shirt", "tokens": ["pink", "shirt"]}, ...]}

Source: lichengunc/refer (`refer.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.formats.instances import POLYGONS_CUT, REPEATED, Instances, read_instances
from sam4mllm.data_prep.formats.safe_io import (
    check_integer,
    check_text,
    format_errors_as_user_errors,
    read_json,
    read_pickle,
)
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.errors import UserError

IMAGE_FOLDER = "train2014"  # all data sets in this layout use COCO's images of 2014
NO_TARGET = [-1]  # gRefCOCO's annotations of a ref without a target


def read_refer(source: str, split_by: str, refs_file: Path, images: Path) -> RawDataset:
    """A data set in REFER's layout: the refs, and the instances in the same folder.

    Raises:
        UserError: if a file is missing, damaged or of another form, or the files are of two different data sets.
    """
    refs = read_refs(refs_file)
    instances = read_instances(refs_file.parent / "instances.json")
    splits: dict[str, list[Sample]] = {}
    counts = Counter[str]()
    with format_errors_as_user_errors(refs_file, "REFER"):
        _check_same_dataset(refs, instances)
    for ref in refs:
        with format_errors_as_user_errors(f"{refs_file}: {_name(ref)}", "REFER"):
            for split in parse_splits(ref):
                counts[split] += 1
                splits.setdefault(split, []).extend(_make_samples(ref, instances, source, split_by, split))
    noticed = {
        "refs without a sentence": [_name(ref) for ref in refs if not ref["sentences"]],
        "refs of which a crowd or a repeated object is left out": [
            _name(ref) for ref in refs if len(_objects(ref, instances)) < len(_annotation_ids(ref))
        ],
        POLYGONS_CUT: instances.clipped,
        REPEATED: instances.duplicates,
    }
    return RawDataset(source, images, splits, split_by, dict(counts), noticed=noticed)


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The refs of a pickle or a JSON file. No code in the file is run.

    Raises:
        UserError: if the file is missing, damaged or holds anything but plain values, or a ref has no valid split or
            image id.
    """
    if not path.is_file():
        present = ", ".join(sorted(file.name for file in path.parent.glob("*refs(*)*"))) or "no refs at all"
        raise UserError(f"no such file: {path}; {path.parent} has {present}")
    refs = read_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise UserError(f"{path} holds no refs: expected a list of dictionaries")
    for ref in refs:
        with format_errors_as_user_errors(f"{path}: {_name(ref)}", "REFER"):
            parse_splits(ref)
            check_integer(ref["image_id"])
    return refs


def image_root(root: Path) -> Path:
    """The folder that contains train2014, in one of the two usual locations."""
    folders = (root / "images", root / "images" / "mscoco" / "images")
    return next((folder for folder in folders if (folder / IMAGE_FOLDER).is_dir()), folders[0])


def parse_splits(ref: Mapping[str, Any]) -> list[str]:
    """The splits of a ref. As in REFER, a ref with the split "testAB" belongs to testA and to testB.

    Raises:
        UserError: if REFER does not have the split.
    """
    split = ref.get("split")
    if split in ("train", "val", "test"):
        return [split]
    letters = split.removeprefix("test") if isinstance(split, str) else ""
    if letters and letters != split and set(letters) <= set("ABC"):
        return [f"test{letter}" for letter in letters]
    raise UserError(f"unknown split {short_repr(split)}: REFER has train, val, test, testA, testB and testC")


def _make_samples(ref: Mapping[str, Any], instances: Instances, source: str, split_by: str, split: str) -> list[Sample]:
    """One sample per sentence of a ref: the phrase is the text that REFER normalised (``sent``)."""
    image = instances.images[ref["image_id"]]
    masks = tuple(map(instances.mask, _objects(ref, instances)))
    return [
        Sample(
            id=f"{source}-{split_by}-{ref['ref_id']}-{sentence['sent_id']}",
            image=f"{IMAGE_FOLDER}/{check_text(image['file_name'])}",
            width=check_integer(image["width"]),
            height=check_integer(image["height"]),
            phrase=check_text(sentence["sent"]),
            masks=masks,
            source=source,
            split=split,
            raw=check_text(sentence["raw"]),
        )
        for sentence in ref["sentences"]
    ]


def _annotation_ids(ref: Mapping[str, Any]) -> list[int]:
    """The annotations of a ref: REFER's data sets have one id, gRefCOCO has a list of ids, or -1 for no target."""
    ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
    return [] if ids == NO_TARGET else ids


def _objects(ref: Mapping[str, Any], instances: Instances) -> list[int]:
    """The annotations of a ref, without duplicates. Of several, crowds are left out, as by gRefCOCO's reader."""
    ids = list(dict.fromkeys(_annotation_ids(ref)))
    return [object_id for object_id in ids if not instances.annotations[object_id].get("iscrowd")] or ids


def _name(ref: Mapping[str, Any]) -> str:
    return f"ref {short_repr(ref.get('ref_id'))}"


def _check_same_dataset(refs: Sequence[Mapping[str, Any]], instances: Instances) -> None:
    """Checks that the instances have the images and annotations of all refs, and that they belong together.

    Raises:
        UserError: if they do not; the message counts the refs without them.
    """
    unknown = [ref for ref in refs if not _is_known(ref, instances)]
    if unknown:
        raise UserError(
            f"instances.json is of another data set or incomplete: {len(unknown)} of {len(refs)} refs have images or "
            f"annotations that it lacks, the first is {_name(unknown[0])}: image {short_repr(unknown[0]['image_id'])}, "
            f"annotation {short_repr(unknown[0]['ann_id'])}"
        )


def _is_known(ref: Mapping[str, Any], instances: Instances) -> bool:
    annotations = [instances.annotations.get(annotation_id) for annotation_id in _annotation_ids(ref)]
    return ref["image_id"] in instances.images and all(
        annotation is not None and annotation["image_id"] == ref["image_id"] for annotation in annotations
    )
