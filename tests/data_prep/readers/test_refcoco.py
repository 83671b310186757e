import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep.formats.refer import read_refs
from sam4mllm.data_prep.readers.refcoco import SPLIT_BY, prepare
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from sam4mllm.geometry.rle import Rle
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error
from tests.running import invoke


def write(root: Path, splits=("val",), ref=None, image=None, annotation=None) -> Path:
    """One set in REFER's layout: a ref of two sentences for each split, and what is to differ."""
    refs = [
        {
            "ref_id": number,
            "ann_id": 7,
            "image_id": 5,
            "split": split,
            "sentences": [
                {"sent_id": 2 * number, "sent": "left cat", "raw": "Left cat!", "tokens": ["left", "cat"]},
                {"sent_id": 2 * number + 1, "sent": "the cat", "raw": "the cat", "tokens": ["the", "cat"]},
            ],
            **(ref or {}),
        }
        for number, split in enumerate(splits)
    ]
    instances = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 6, "height": 4, **(image or {})}],
        "annotations": [{"id": 7, "image_id": 5, "segmentation": raw.SQUARE, **(annotation or {})}],
    }
    return raw.write_files(root, {"refcoco/refs(unc).p": refs, "refcoco/instances.json": instances})


def test_every_sentence_becomes_a_sample(tmp_path):
    left, the = prepare(write(tmp_path), "refcoco").splits["val"]
    assert (left.id, left.phrase, left.raw) == ("refcoco-unc-0-0", "left cat", "Left cat!")
    assert (the.id, the.image, the.width, the.height) == ("refcoco-unc-0-1", "train2014/a.jpg", 6, 4)
    assert left.ground_truth.box == Box(1, 1, 4, 3)
    assert (left.source, left.split) == ("refcoco", "val")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("train", {"train"}), ("val", {"val"}), ("test", {"test"}), ("testA", {"testA"}), ("testAB", {"testA", "testB"})],
)
def test_splits_are_read_as_in_refer(tmp_path, word, expected):
    reading = prepare(write(tmp_path, [word]), "refcoco")
    assert set(reading.splits) == expected
    assert reading.refs == dict.fromkeys(expected, 1)


def test_a_split_keeps_the_order_of_its_refs(tmp_path):
    splits = prepare(write(tmp_path, ["testB", "val", "testA", "testAB"]), "refcoco").splits
    assert [sample.id for sample in splits["testB"]] == [f"refcoco-unc-{name}" for name in ("0-0", "0-1", "3-6", "3-7")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"ref": {"ann_id": 8}}, "another data set.*1 of 1 refs.*annotation 8", id="no such annotation"),
        pytest.param({"ref": {"image_id": 8}}, "another data set.*ref 0: image 8", id="no such image"),
        pytest.param({"annotation": {"image_id": 6}}, "another data set", id="an annotation of another image"),
        pytest.param(
            {"ref": {"ann_id": [[8]]}}, "not in the format of REFER: TypeError", id="an annotation without a name"
        ),
        pytest.param({"ref": {"split": "testD"}}, r"refs\(unc\)\.p: ref 0: unknown split 'testD'", id="unknown split"),
        pytest.param({"ref": {"split": None}}, "unknown split None", id="no split"),
        pytest.param({"ref": {"image_id": [5]}}, r"\.p: ref 0 is .*: expected an integer, got \[5\]", id="a list"),
        pytest.param(
            {"ref": {"sentences": [{"sent_id": 1}]}},
            r"refs\(unc\)\.p: ref 0 is .* missing or unknown: 'sent'",
            id="no words",
        ),
        pytest.param(
            {"ref": {"sentences": [{"sent_id": 1, "sent": 5, "raw": ""}]}}, "expected text, got 5", id="a number"
        ),
        pytest.param({"image": {"file_name": "../../../etc/passwd"}}, "below the image root", id="leaves the root"),
        pytest.param(
            {"image": {"width": 0}}, "ref 0: annotation 7: a mask must have 1 to", id="an image without pixels"
        ),
        pytest.param({"annotation": {"segmentation": [[1, 1]]}}, "ref 0: annotation 7: a polygon", id="half a polygon"),
        pytest.param(
            {"annotation": {"segmentation": [[90, 1, 95, 1, 95, 3]]}},
            "ref 0: annotation 7: a polygon is far outside",
            id="far off",
        ),
    ],
)
def test_data_of_another_form_is_one_line(tmp_path, change, message):
    with one_line_error(message):
        prepare(write(tmp_path, **change), "refcoco")


@pytest.mark.parametrize(
    ("annotation", "noticed"),
    [
        pytest.param({"segmentation": raw.SQUARE}, {}, id="inside"),
        pytest.param(
            {"segmentation": [[1, 1, 9, 1, 9, 3, 1, 3]]}, {"polygons beyond the image": ["annotation 7"]}, id="leaves"
        ),
        pytest.param(
            {"segmentation": {"size": [4, 6], "counts": [5, 2, 17]}}, {}, id="a crowd's runs, as REFER decodes them"
        ),
    ],
)
def test_polygons_are_cut_at_the_edge_and_counted(tmp_path, annotation, noticed):
    reading = prepare(write(tmp_path, annotation=annotation), "refcoco")
    samples = {what: who for what, who in reading.noticed.items() if who}
    assert {what[: len("polygons beyond the image")]: who for what, who in samples.items()} == noticed
    assert all(sample.ground_truth.area for sample in reading.splits["val"])


def test_a_mask_is_painted_once_for_all_sentences(tmp_path, monkeypatch):
    painted = []
    from_coco = Rle.from_coco
    monkeypatch.setattr(Rle, "from_coco", lambda *words: painted.append(words) or from_coco(*words))
    reading = prepare(write(tmp_path, ["train", "train", "val"]), "refcoco")
    assert sum(map(len, reading.splits.values())) == 6
    assert len(painted) == 1


def test_a_ref_without_a_sentence_is_counted(tmp_path):
    reading = prepare(write(tmp_path, ref={"sentences": []}), "refcoco")
    assert reading.noticed["refs without a sentence"] == ["ref 0"]
    assert (reading.splits, reading.refs) == ({"val": []}, {"val": 1})


def test_a_ref_without_a_sentence_and_an_id_is_counted(tmp_path):
    root = write(tmp_path)
    refs = [{"ann_id": 7, "image_id": 5, "split": "val", "sentences": []}]
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs))
    assert prepare(root, "refcoco").noticed["refs without a sentence"] == ["ref None"]


@pytest.mark.parametrize("content", [{}, [1], "refs", 5], ids=str)
def test_a_pickle_of_something_else_holds_no_refs(tmp_path, content):
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="holds no refs: expected a list of dictionaries"):
        read_refs(tmp_path / "refs(unc).p")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"images": [], "annotations": [5]}'], ids=str)
def test_instances_that_cannot_be_read_are_one_line(tmp_path, content):
    path = write(tmp_path) / "refcoco" / "instances.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="instances"):
        prepare(tmp_path, "refcoco")


def run(*words: str | Path):
    return invoke("data", *words)


def test_the_command_writes_a_folder_for_each_split(tmp_path):
    root = write(tmp_path / "raw", ["val", "testA"])
    (root / "images" / "mscoco" / "images" / "train2014").mkdir(parents=True)
    result = run("refcoco", "--root", root, "--out", tmp_path / "out", "--partial")
    assert result.exit_code == 0, result.output
    assert "val: 1 refs (official: 3,811), 2 sentences (official: 10,834), 1 images" in result.output
    samples = read_samples(tmp_path / "out" / "testA")
    assert len(samples) == 2
    assert samples.images == root / "images" / "mscoco" / "images"
    run("refcoco", "--root", root, "--out", tmp_path / "out", "--partial", "--images", "/elsewhere")
    assert read_samples(tmp_path / "out" / "val").images == Path("/elsewhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["refcocog"], "refcocog has no refs at all", id="missing"),
        pytest.param(["refcoco", "--split-by", "google"], "has refs(unc).p", id="another split-by"),
        pytest.param(["refcoco", "--out", "/proc/none"], "cannot write", id="unwritable"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, message):
    root = write(tmp_path / "raw")
    result = run(words[0], "--root", root, "--out", tmp_path / "out", *words[1:])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within pycocotools' decode
@pytest.mark.parametrize("dataset", SPLIT_BY)
def test_real_masks_and_sentences_are_those_of_refers_own_reader(real_data, dataset):
    """REFER's `getMask` paints each polygon and sums the layers; `sent` and `raw` are as they are."""
    folder = real_data / "refcoco_real" / dataset
    refs = pickle.loads((folder / f"refs({SPLIT_BY[dataset][0]}).p").read_bytes())
    document = json.loads((folder / "instances.json").read_text())
    images = {image["id"]: image for image in document["images"]}
    annotations = {annotation["id"]: annotation for annotation in document["annotations"]}
    samples = {s.id: s for rows in prepare(real_data / "refcoco_real", dataset).splits.values() for s in rows}
    for ref in refs:
        size = images[ref["image_id"]]["height"], images[ref["image_id"]]["width"]
        layers = coco.decode(coco.frPyObjects(annotations[ref["ann_id"]]["segmentation"], *size))
        for sentence in ref["sentences"]:
            sample = samples.pop(f"{dataset}-{SPLIT_BY[dataset][0]}-{ref['ref_id']}-{sentence['sent_id']}")
            assert (sample.phrase, sample.raw, sample.split) == (sentence["sent"], sentence["raw"], ref["split"])
            assert np.array_equal(sample.ground_truth.mask, layers.sum(axis=2) > 0)
    assert not samples
