import json
import os
import pickle
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from data_prep import refcoco
from data_prep.refcoco import SPLIT_BY, prepare
from data_prep.refer import read_refs
from sam4mllm.errors import UserError
from sam4mllm.geometry import Box
from sam4mllm.samples import read_samples

APP = typer.Typer()
APP.command()(refcoco.main)


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
        "annotations": [{"id": 7, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], **(annotation or {})}],
    }
    (root / "refcoco").mkdir(parents=True)
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    (root / "refcoco" / "instances.json").write_text(json.dumps(instances))
    return root


def test_every_sentence_becomes_a_sample(tmp_path):
    splits = prepare(write(tmp_path), "refcoco", "unc")
    left, the = splits["val"]
    assert (left.id, left.phrase, left.raw) == ("refcoco-unc-0-0", "left cat", "Left cat!")
    assert (the.id, the.image, the.width, the.height) == ("refcoco-unc-0-1", "train2014/a.jpg", 6, 4)
    assert left.truth.box == Box(1, 1, 4, 3)
    assert (left.source, left.split) == ("refcoco", "val")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("train", {"train"}), ("val", {"val"}), ("test", {"test"}), ("testA", {"testA"}), ("testAB", {"testA", "testB"})],
)
def test_splits_are_read_as_refer_reads_them(tmp_path, word, expected):
    assert set(prepare(write(tmp_path, [word]), "refcoco", "unc")) == expected


def test_a_split_keeps_the_order_of_its_refs(tmp_path):
    splits = prepare(write(tmp_path, ["testB", "val", "testA", "testAB"]), "refcoco", "unc")
    assert [sample.id for sample in splits["testB"]] == [f"refcoco-unc-{name}" for name in ("0-0", "0-1", "3-6", "3-7")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"ref": {"ann_id": 8}}, "ref 0 is not as REFER has it: KeyError: 8", id="no such annotation"),
        pytest.param({"ref": {"image_id": 8}}, "KeyError: 8", id="no such picture"),
        pytest.param({"ref": {"split": "testD"}}, "has the split 'testD'", id="unknown split"),
        pytest.param({"ref": {"split": None}}, "has the split 'None'", id="no split"),
        pytest.param({"ref": {"sentences": [{"sent_id": 1}]}}, "KeyError: 'sent'", id="no words"),
        pytest.param({"ref": {"sentences": [{"sent_id": 1, "sent": 5, "raw": ""}]}}, "words are text", id="a number"),
        pytest.param({"image": {"file_name": "../../../etc/passwd"}}, "below the image root", id="leaves the root"),
        pytest.param({"image": {"width": 0}}, "ref 0: a mask has 1 to", id="a picture without pixels"),
        pytest.param({"annotation": {"segmentation": [[1, 1]]}}, "ref 0: a polygon", id="half a polygon"),
    ],
)
def test_data_of_another_form_is_one_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare(write(tmp_path, **change), "refcoco", "unc")
    assert "\n" not in str(caught.value)


class Trap:
    def __reduce__(self):
        return os.system, ("echo sprung > sprung",)


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([Trap()], protocol=protocol))
    with pytest.raises(UserError, match=r"it names (posix|nt)\.system"):
        read_refs(tmp_path / "refs(unc).p")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", pickle.dumps([{"a": 1}])[:-3], pickle.dumps({}), pickle.dumps([1]), b"\x80\x02]q\x00(X\xff\xff"],
    ids=["empty", "text", "cut short", "a dictionary", "numbers", "damaged"],
)
def test_refs_that_cannot_be_read_are_one_line(tmp_path, content):
    (tmp_path / "refs(unc).p").write_bytes(content)
    with pytest.raises(UserError, match=r"refs") as caught:
        read_refs(tmp_path / "refs(unc).p")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_refs_of_every_protocol_are_read(tmp_path, protocol):
    refs = [
        {"ref_id": 1, "area": 2.5, "big": 2**70, "sentences": [{"sent": "die Löwen"}], "none": None, "t": (1, True)}
    ]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=protocol))
    assert read_refs(tmp_path / "refs(unc).p") == refs


@pytest.mark.parametrize("content", [None, "{", "[]", '{"images": [], "annotations": [5]}'], ids=str)
def test_instances_that_cannot_be_read_are_one_line(tmp_path, content):
    path = write(tmp_path) / "refcoco" / "instances.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="instances"):
        prepare(tmp_path, "refcoco", "unc")


def run(*words: str | Path):
    return CliRunner().invoke(APP, [*map(str, words)])


def test_the_command_writes_a_folder_for_each_split(tmp_path):
    root = write(tmp_path / "raw", ["val", "testA"])
    (root / "images" / "mscoco" / "images" / "train2014").mkdir(parents=True)
    result = run("--dataset", "refcoco", "--root", root, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "val: 2 expressions about 1 pictures" in result.output
    found = read_samples(tmp_path / "out" / "testA")
    assert len(found) == 2
    assert found.images == root / "images" / "mscoco" / "images"
    run("--dataset", "refcoco", "--root", root, "--out", tmp_path / "out", "--images", "/elsewhere")
    assert read_samples(tmp_path / "out" / "val").images == Path("/elsewhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--dataset", "refclef"], "choose one of refcoco, refcoco+, refcocog", id="set"),
        pytest.param(["--dataset", "refcoco", "--split-by", "umd"], "choose one of unc, google", id="split-by"),
        pytest.param(["--dataset", "refcocog"], "refcocog has no refs at all", id="missing"),
        pytest.param(["--dataset", "refcoco", "--split-by", "google"], "has refs(unc).p", id="another split-by"),
        pytest.param(["--dataset", "refcoco", "--out", "/proc/none"], "cannot write", id="unwritable"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, message):
    root = write(tmp_path / "raw")
    result = run("--root", root, "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("refcoco", {"val": 4, "testB": 20}),
        ("refcoco+", {"val": 6, "testB": 18}),
        ("refcocog", {"val": 4, "test": 5}),
    ],
)
def test_all_real_sentences_come_out(real_data, tmp_path, dataset, expected):
    root = real_data / "refcoco_real"
    assert run("--dataset", dataset, "--root", root, "--out", tmp_path).exit_code == 0
    for split, count in expected.items():
        found = read_samples(tmp_path / split)
        assert len(found) == count
        assert all(found.path(sample).is_file() for sample in found)
        assert all(sample.truth.area > 0 and sample.phrase for sample in found)
    annotations = json.loads((root / dataset / "instances.json").read_text())["annotations"]
    by_split = prepare(root, dataset, SPLIT_BY[dataset][0])
    areas = {round(annotation["area"]) for annotation in annotations}
    for sample in (sample for samples in by_split.values() for sample in samples):
        assert min(abs(area - sample.truth.area) / area for area in areas) < 0.02  # COCO's own, of the polygon
