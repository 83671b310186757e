import json
from pathlib import Path

import pytest

from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep.formats.instances import REPEATED
from sam4mllm.data_prep.readers.coco import prepare
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from sam4mllm.geometry.rle import Rle
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error
from tests.running import invoke


def thing(number: int, x: int, **change) -> dict:
    square = [[x, 1, x + 3, 1, x + 3, 3, x, 3]]
    return {"id": number, "image_id": 5, "category_id": 1, "iscrowd": 0, "segmentation": square, **change}


def write(root: Path, things: list[dict], name: str = "instances.json", **change) -> Path:
    document = {
        "images": [{"id": 5, "file_name": "a/b.jpg", "width": 12, "height": 4}],
        "annotations": things,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        **change,
    }
    return raw.write_files(root, {name: document})


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        pytest.param([thing(1, 0), thing(2, 3)], {"cat": [0, 3]}, id="a category means all of its objects"),
        pytest.param([thing(1, 0), thing(2, 3, category_id=2)], {"cat": [0], "dog": [3]}, id="two categories"),
        pytest.param([thing(1, 0, phrase="left"), thing(2, 3)], {"left": [0], "cat": [3]}, id="a phrase"),
        pytest.param([thing(1, 0, caption="left"), thing(2, 3)], {"left": [0], "cat": [3]}, id="a caption"),
        pytest.param([thing(1, 0, phrase="a", caption="b")], {"a": [0]}, id="a phrase before a caption"),
        pytest.param([thing(1, 0, phrase="a"), thing(2, 3, phrase="a")], {"a": [0, 3]}, id="the same phrase twice"),
        pytest.param([thing(1, 0, phrase="")], {"cat": [0]}, id="an empty phrase"),
        pytest.param([thing(1, 0, phrase="a", category_id=9)], {"a": [0]}, id="a phrase needs no category"),
    ],
)
def test_objects_with_the_same_phrase_are_one_sample(tmp_path, things, expected):
    samples = prepare(write(tmp_path, things)).splits["train"]
    boxes = {sample.phrase: [mask.box for mask in sample.masks] for sample in samples}
    assert boxes == {words: [Box(x, 1, x + 3, 3) for x in places] for words, places in expected.items()}
    assert {sample.image for sample in samples} == {"a/b.jpg"}


def test_files_are_splits(tmp_path):
    write(tmp_path, [thing(1, 0)], "instances_val.json")
    write(tmp_path, [thing(1, 0), thing(2, 3, phrase="b")], "annotations/instances_train2017.json")
    assert {split: len(rows) for split, rows in prepare(tmp_path).splits.items()} == {"train2017": 2, "val": 1}
    write(tmp_path, [thing(1, 0)])
    assert set(prepare(tmp_path, split="mine").splits) == {"mine", "train2017", "val"}


@pytest.mark.parametrize("other", ["instances_train.json", "annotations/instances_train.json"])
def test_two_files_of_one_split_are_refused_by_name(tmp_path, other):
    write(write(tmp_path, [thing(1, 0)]), [thing(1, 0), thing(2, 3)], other)
    with pytest.raises(UserError, match=f"instances.json and .*{other} are both of the split train"):
        prepare(tmp_path)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image")


@pytest.mark.parametrize("home", ["", "coco"], ids=["the root itself", "a folder of the root"])
@pytest.mark.parametrize(
    ("image_path", "images"),
    [
        pytest.param("{split}/a/b.jpg", None, id="as COCO has them"),
        pytest.param("images/{split}/a/b.jpg", None, id="folders in images"),
        pytest.param("images/a/b.jpg", None, id="all in images"),
        pytest.param("elsewhere/{split}/a/b.jpg", "elsewhere", id="folders elsewhere"),
        pytest.param("elsewhere/a/b.jpg", "elsewhere", id="all elsewhere"),
    ],
)
def test_the_images_of_several_splits_are_found(tmp_path, home, image_path, images):
    for split in ("train2017", "val2017"):
        write(tmp_path / home, [thing(1, 0)], f"annotations/instances_{split}.json")
        put(tmp_path / home, image_path.format(split=split))
    dataset = prepare(tmp_path, images=tmp_path / home / images if images else None)
    samples = {split: dataset.images / sample.image for split, [sample] in dataset.splits.items()}
    assert samples == {split: tmp_path / home / image_path.format(split=split) for split in ("train2017", "val2017")}


def test_a_file_name_that_starts_with_its_split_is_unchanged(tmp_path):
    images = [{"id": 5, "file_name": "train/b.jpg", "width": 12, "height": 4}]
    put(write(tmp_path, [thing(1, 0)], images=images), "images/train/b.jpg")
    assert prepare(tmp_path).splits["train"][0].image == "train/b.jpg"


@pytest.mark.parametrize("name", ["../b.jpg", "/b.jpg"])
def test_a_file_name_cannot_leave_the_folder_of_its_split(tmp_path, name):
    images = [{"id": 5, "file_name": name, "width": 12, "height": 4}]
    put(write(tmp_path, [thing(1, 0)], images=images), "train/b.jpg")
    with pytest.raises(UserError, match="an image must be a path below the image root"):
        prepare(tmp_path)


def test_a_crowd_is_a_mask_like_others(tmp_path):
    crowd = thing(1, 0, iscrowd=1, segmentation={"size": [4, 12], "counts": [4, 4, 40]})
    [sample] = prepare(write(tmp_path, [crowd])).splits["train"]
    assert sample.masks == (Rle.from_runs([4, 4, 40], 4, 12),)


def test_images_of_no_object_and_polygons_that_leave_are_counted(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 12, "height": 4} for number in (5, 6)]
    noticed = prepare(write(tmp_path, [thing(1, 10)], images=images)).noticed
    assert noticed == {
        "images without an object": ["6.jpg"],
        "polygons beyond the image, cut at its edge": [],  # by one pixel: within the slack
        REPEATED: [],
    }
    noticed = prepare(write(tmp_path, [thing(1, 11)], images=images)).noticed
    assert noticed["polygons beyond the image, cut at its edge"] == ["annotation 1"]


def test_repeated_entries_count_once_and_are_reported(tmp_path):
    dataset = prepare(write(tmp_path, [thing(1, 0), thing(1, 0)]))
    assert [len(sample.masks) for sample in dataset.splits["train"]] == [1]
    assert dataset.noticed[REPEATED] == ["annotation 1"]


@pytest.mark.parametrize(
    "split",
    ["../../evil", "/evil", "a/b", "a/", "", ".", "..", ".hidden", "a\\b", "c:a", "a\nb", "a\0b", "report.json"],
)
def test_a_split_cannot_leave_the_output(tmp_path, split):
    root, out = write(tmp_path / "raw", [thing(1, 0)]), tmp_path / "a" / "b" / "c"
    words = ["--root", root, "--out", out, "--split", split]
    result = invoke("data", "coco", *words)
    assert result.exit_code == 2
    assert "a split is written to a folder of its name" in result.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("things", "change", "message"),
    [
        pytest.param(
            [thing(1, 0, category_id=9)], {}, "not in the format of COCO: missing or unknown: 9", id="no category"
        ),
        pytest.param([thing(1, 0, image_id=9)], {}, "not in the format of COCO: missing or unknown: 9", id="no image"),
        pytest.param([thing(1, 0, phrase=5)], {}, "expected text, got 5", id="a number as words"),
        pytest.param(
            [thing(1, 0, segmentation=[[1, 2]])], {}, "annotation 1: a polygon must be a list", id="half a polygon"
        ),
        pytest.param(
            [thing(1, 0)],
            {"images": [{"id": 5, "file_name": "../b.jpg", "width": 12, "height": 4}]},
            "an image must be a path below the image root, got '../b.jpg'",
            id="leaves the root",
        ),
        pytest.param([thing(1, 0)], {"images": 5}, "is not in the format of COCO: TypeError", id="another form"),
        pytest.param(
            [thing(1, 0), thing(1, 3)], {}, "annotation id 1 is used by two different entries", id="objects of one id"
        ),
        pytest.param(
            [thing(1, 0)],
            {"images": [{"id": 5, "file_name": f"{name}.jpg", "width": 12, "height": 4} for name in "ab"]},
            "image id 5 is used by two different entries",
            id="images of one id",
        ),
        pytest.param(
            [thing(1, 0)],
            {"categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
            "category id 1 is used by two different entries",
            id="categories of one id",
        ),
        pytest.param(
            [thing(1, 0)],
            {"images": [{"id": 5, "file_name": "b.jpg", "width": 12, "height": 4}, {"id": 6}]},
            "not in the format of COCO: missing or unknown: 'file_name'",
            id="an image of no object and no name",
        ),
    ],
)
def test_files_of_another_form_are_one_line_that_names_them(tmp_path, things, change, message):
    with one_line_error(message) as caught:
        prepare(write(tmp_path, things, **change))
    assert "instances.json" in str(caught.value)


def test_a_folder_without_instances_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no instances in .*: expected instances\.json"):
        prepare(tmp_path)


def test_the_command_writes_real_images_and_masks(real_data, tmp_path):
    words = ["--root", real_data / "coco_real", "--split", "val", "--out", tmp_path / "out"]
    result = invoke("data", "coco", *words)
    assert result.exit_code == 0, result.output
    samples = read_samples(tmp_path / "out" / "val")
    document = json.loads((real_data / "coco_real" / "instances.json").read_text())
    names = {each["id"]: each["name"] for each in document["categories"]}
    files = {each["id"]: each["file_name"] for each in document["images"]}
    expected_objects: dict[tuple[str, str], list[dict]] = {}
    for each in document["annotations"]:
        expected_objects.setdefault((files[each["image_id"]], names[each["category_id"]]), []).append(each)
    assert [(sample.image, sample.phrase) for sample in samples] == list(expected_objects)
    assert sum(len(sample.masks) for sample in samples) == 635
    for sample in samples:
        sizes = sample.height, sample.width
        objects = expected_objects[sample.image, sample.phrase]
        assert list(sample.masks) == [Rle.from_coco(each["segmentation"], *sizes) for each in objects]
        assert samples.path(sample).is_file()
    assert "images without an object: 2" in result.output
