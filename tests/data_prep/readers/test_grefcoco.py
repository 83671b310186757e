import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep.readers.grefcoco import prepare
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error
from tests.running import invoke


def square(x: int) -> list[list[int]]:
    return [[x, 1, x + 3, 1, x + 3, 3, x, 3]]


def write(root: Path, ann_id, pickled: bool = False, **change) -> Path:
    """Three squares on one image, the third a crowd, and a ref of some of them."""
    ref = {
        "ref_id": 3,
        "ann_id": ann_id,
        "image_id": 5,
        "split": "val",
        "file_name": "a_16.jpg",
        "sentences": [{"sent_id": 9, "sent": "the squares", "raw": "The squares", "tokens": ["the", "squares"]}],
        **change,
    }
    instances = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 12, "height": 4}],
        "annotations": [
            {"id": number, "image_id": 5, "iscrowd": int(number == 3), "segmentation": square(3 * number - 3)}
            for number in (1, 2, 3)
        ],
    }
    refs_file = f"grefcoco/grefs(unc).{'p' if pickled else 'json'}"
    return raw.write_files(root, {"grefcoco/instances.json": instances, refs_file: [ref]})


@pytest.mark.parametrize("pickled", [False, True], ids=["json", "pickle"])
@pytest.mark.parametrize(
    ("ann_id", "boxes"),
    [
        pytest.param([-1], [], id="no target"),
        pytest.param(-1, [], id="no target, without a list"),
        pytest.param([2], [(3, 6)], id="one"),
        pytest.param(2, [(3, 6)], id="one, without a list"),
        pytest.param([2, 1], [(3, 6), (0, 3)], id="several, in the file's order"),
        pytest.param([1, 1], [(0, 3)], id="one that is named twice"),
        pytest.param([1, 3], [(0, 3)], id="a crowd among several does not count"),
        pytest.param([3], [(6, 9)], id="a crowd alone"),
    ],
)
def test_a_ref_has_a_mask_per_object(tmp_path, ann_id, boxes, pickled):
    [sample] = prepare(write(tmp_path, ann_id, pickled)).splits["val"]
    assert [mask.box for mask in sample.masks] == [Box(x0, 1, x1, 3) for x0, x1 in boxes]
    assert (sample.id, sample.image, sample.phrase, sample.raw) == (
        "grefcoco-unc-3-9",
        "train2014/a.jpg",
        "the squares",
        "The squares",
    )


@pytest.mark.parametrize(("ann_id", "count"), [([1, 2], 0), ([1, 1], 1), ([1, 3], 1), ([3], 0), ([-1], 0)])
def test_omitted_objects_of_a_ref_are_counted(tmp_path, ann_id, count):
    noticed = prepare(write(tmp_path, ann_id)).noticed
    assert noticed["refs of which a crowd or a repeated object is left out"] == ["ref 3"] * count


@pytest.mark.parametrize("ann_id", [[4], [1, 4], [1, -1]], ids=str)
def test_an_object_that_the_instances_lack_is_one_line(tmp_path, ann_id):
    with one_line_error("is of another data set or incomplete: 1 of 1 refs"):
        prepare(write(tmp_path, ann_id))


def test_missing_refs_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*grefs\(unc\)\.json; .* has no refs at all"):
        prepare(tmp_path)


@pytest.fixture
def real_root(real_data, tmp_path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "grefcoco").symlink_to(real_data / "grefcoco_format")
    (tmp_path / "raw" / "images").symlink_to(real_data / "refcoco_real" / "images")
    return tmp_path / "raw"


def test_the_command_writes_what_the_files_hold(real_root, tmp_path):
    result = invoke("data", "grefcoco", "--root", str(real_root), "--out", str(tmp_path / "out"), "--partial")
    assert result.exit_code == 0, result.output
    assert "val: 25 refs (official: 8,163), 27 sentences, 6 images; 12 without a target" in result.output
    assert "missing" not in result.output
    samples = [sample for split in ("val", "testA", "testB") for sample in read_samples(tmp_path / "out" / split)]
    assert len({sample.id.rpartition("-")[0] for sample in samples}) == 37
    assert len({sample.id.rpartition("-")[0] for sample in samples if len(sample.masks) > 1}) == 13
    assert len({sample.id.rpartition("-")[0] for sample in samples if not sample.masks}) == 16


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within pycocotools' decode
def test_real_masks_are_those_of_the_official_reader(real_root):
    """`getMaskByRef(merge=True)` of grefer.py: the layers of all objects summed, clipped to one; all zero for [-1]."""
    refs = json.loads((real_root / "grefcoco" / "grefs(unc).json").read_text())
    document = json.loads((real_root / "grefcoco" / "instances.json").read_text())
    images = {image["id"]: image for image in document["images"]}
    annotations = {annotation["id"]: annotation for annotation in document["annotations"]}
    samples = {sample.id: sample for rows in prepare(real_root).splits.values() for sample in rows}
    overlapping = 0
    for ref in refs:
        size = images[ref["image_id"]]["height"], images[ref["image_id"]]["width"]
        objects = [annotations[annotation_id] for annotation_id in ref["ann_id"] if annotation_id != -1]
        layers = [
            coco.decode(coco.frPyObjects(annotation["segmentation"], *size)).sum(axis=2) for annotation in objects
        ]
        merged = np.sum([np.zeros(size), *layers], axis=0)
        overlapping += int((merged > 1).any())
        for sentence in ref["sentences"]:
            sample = samples.pop(f"grefcoco-unc-{ref['ref_id']}-{sentence['sent_id']}")
            assert np.array_equal(sample.ground_truth.mask, np.minimum(merged, 1).astype(bool))
            assert len(sample.masks) == len(objects)
            assert (sample.phrase, sample.raw, sample.split) == (sentence["sent"], sentence["raw"], ref["split"])
    assert not samples
    assert overlapping  # a sum that is not clipped would differ
