import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample, read_samples, write_samples
from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.datasets import READERS
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.readers.refcoco import prepare
from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from tests.data_prep import raw
from tests.paths import ROOT

SPLITS = {"train": [1, 2], "val": [3]}


def make(root: Path, out: Path, name: str = "refcoco", partial: bool = True, lines=None) -> None:
    convert(READERS[name](root), root, out / name, partial, False, (lines if lines is not None else []).append)


def test_counts_that_differ_from_the_official_ones_stop_the_conversion(tmp_path):
    lines: list[str] = []
    root = raw.write(tmp_path / "raw", "refcoco", SPLITS)
    with pytest.raises(UserError, match=r"not the official refcoco: .*train has 2 refs instead of 42,404.*--partial"):
        make(root, tmp_path / "out", partial=False, lines=lines)
    assert "train: 2 refs (official: 42,404)" in lines[0]
    assert not (tmp_path / "out").exists()


def test_the_same_files_give_the_same_bytes(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", SPLITS)
    make(root, tmp_path / "one" / "data")
    make(root, tmp_path / "two" / "data")
    make(root, tmp_path / "two" / "data")
    assert raw.content(tmp_path / "one") == raw.content(tmp_path / "two")


def test_a_folder_of_another_data_set_is_unchanged(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", SPLITS)
    raw.write(root, "refcoco+", SPLITS)
    out = tmp_path / "out" / "refcoco"
    make(root, tmp_path / "out")
    before = raw.content(tmp_path / "out")
    with pytest.raises(UserError, match="holds refcoco unc: choose another folder, or remove it"):
        convert(READERS["refcoco+"](root), root, out, True, False, str)
    less = raw.write(tmp_path / "less", "refcoco", {"val": [3]})
    with pytest.raises(UserError, match="holds the split train, which these files do not have"):
        convert(READERS["refcoco"](less), less, out, True, False, str)
    assert raw.content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        pytest.param([1, 1, 4, 1, 4, 1], "sentences of which a mask has no pixel: 6", id="of no area"),
        pytest.param([8, 1, 9, 1, 9, 3], "sentences of which a mask has no pixel: 6", id="outside the image"),
        pytest.param([1, 1, 9, 1, 9, 3], "polygons beyond the image, cut at its edge: 3 (annotation 1,", id="cut"),
    ],
)
def test_masks_that_look_odd_are_kept_and_counted(tmp_path, polygon, message):
    lines: list[str] = []
    root = raw.write(tmp_path / "raw", "refcoco", SPLITS, segmentation=[polygon])
    make(root, tmp_path / "out", lines=lines)
    assert message in lines[0]
    assert len(read_samples(tmp_path / "out" / "refcoco" / "train")) == 4
    assert message.partition(":")[0] in (tmp_path / "out" / "refcoco" / "report.json").read_text()


@pytest.mark.parametrize(
    ("later", "message"),
    [
        pytest.param({"phrase": "\ud800"}, "lone surrogate", id="a lone surrogate"),
        pytest.param({"image": "a\nb.jpg"}, r"other: an image path must .*, got 'a\\nb\.jpg'", id="a line break"),
        pytest.param({"image": "a\x1b[2J.jpg"}, "not contain control characters", id="an escape"),
        pytest.param({"id": "first"}, "1 val sample ids occur more than once, the first is 'first'", id="an id twice"),
    ],
)
def test_nothing_is_written_if_a_later_split_is_invalid(tmp_path, later, message):
    first = Sample("first", "a.jpg", 6, 4, "it", (), split="train")
    splits = {
        "train": [first],
        "val": [replace(first, split="val"), replace(first, **{"id": "other", **later}, split="val")],
    }
    with pytest.raises(UserError, match=message):
        convert(RawDataset("toy", tmp_path, splits=splits), tmp_path, tmp_path / "out" / "toy", False, False, str)
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_and_those_that_cannot_be_read_are_counted(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", {"train": [1, 2, 3], "val": [4]})
    (root / "images" / "train2014").mkdir(parents=True)
    for image, size in ((1, (6, 4)), (2, (4, 6))):
        PIL.Image.new("RGB", size).save(root / "images" / "train2014" / raw.file(image))
    (root / "images" / "train2014" / raw.file(3)).write_text("none")
    make(root, tmp_path / "out")
    noticed = json.loads((tmp_path / "out" / "refcoco" / "report.json").read_text())["noticed"]
    names = {image: f"train2014/{raw.file(image)}" for image in (2, 3, 4)}
    assert noticed == {
        "missing images": {"count": 1, "first": [names[4]]},
        "images that cannot be read": {"count": 1, "first": [names[3]]},
        "images of another size than recorded": {"count": 1, "first": [f"{names[2]}: 4 x 6 instead of 6 x 4"]},
    }


def test_an_id_with_a_line_break_is_reported_in_one_line(tmp_path):
    lines: list[str] = []
    splits = {"val": [Sample("x\ny", "a.jpg", 6, 4, "", ())]}
    convert(RawDataset("toy", tmp_path, splits=splits), tmp_path, tmp_path / "out" / "toy", False, False, lines.append)
    assert r"sentences without a word: 1 ('x\ny')" in lines[0].splitlines()


def test_folders_may_be_links(tmp_path, monkeypatch):
    """The output, the raw files and the images are linked from other depths; a later data set rewrites the first."""
    far = tmp_path / "disk" / "a" / "b" / "c"
    raw.write(far / "raw", "refcoco", SPLITS)
    raw.write(far / "later", "refcoco+", {"train": [3], "val": [1]})
    (far / "pictures" / "train2014").mkdir(parents=True)
    for image in (1, 2, 3):
        (far / "pictures" / "train2014" / raw.file(image)).touch()
    for folder in (far / "data", tmp_path / "project"):
        folder.mkdir()
    (far / "raw" / "images").symlink_to(far / "pictures")
    (tmp_path / "project" / "data").symlink_to(far / "data")
    (tmp_path / "project" / "downloads").symlink_to(far / "raw")
    monkeypatch.chdir(tmp_path / "project")
    make(Path("downloads"), Path("data"))
    make(far / "later", Path("data"), "refcoco+")
    for split in ("train", "val"):
        samples = read_samples(Path("data/refcoco") / split)
        assert len(samples) == 2  # one of the two training images was removed
        assert all(samples.path(sample).is_file() for sample in samples)


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", SPLITS)
    make(root, tmp_path / "out")
    before = raw.content(tmp_path / "out")
    for place in ("train/.samples-00000-0123456789ab.77.part.parquet", ".report.77.part.json"):
        (tmp_path / "out" / "refcoco" / place).write_bytes(b"half")
    (tmp_path / "out" / "refcoco" / "train" / "samples-00007-0123456789ab.parquet").write_bytes(b"whole, but old")
    make(root, tmp_path / "out")
    assert raw.content(tmp_path / "out") == before


def test_a_split_that_a_killed_run_began_is_guarded(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", {"val": [9]})
    make(root, tmp_path / "out")
    more = prepare(raw.write(tmp_path / "more", "refcoco", {"train": [3]}), "refcoco")
    write_samples(more.splits["train"], tmp_path / "out" / "refcoco" / "train", tmp_path)
    make(raw.write(tmp_path / "other", "refcoco+", {"val": [3]}), tmp_path / "out", "refcoco+")
    assert len(read_samples(tmp_path / "out" / "refcoco" / "train")) == 0


def test_an_empty_split_is_written(tmp_path):
    convert(RawDataset("toy", tmp_path, splits={"train": []}), tmp_path, tmp_path / "out" / "toy", False, False, str)
    assert len(read_samples(tmp_path / "out" / "toy" / "train")) == 0


WAIT = """
import os, sys, time
from sam4mllm.data_prep.datasets import convert_all, convert_set
from sam4mllm.runtime import files

calls = 0
replace = files.Path.replace

def counted(self, target):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), 9) if sys.argv[2] == "before" else None
    done = replace(self, target)
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
    return done

files.Path.replace = counted
from pathlib import Path
name, root, out = sys.argv[3:6]
if name:
    convert_set(name, Path(root), Path(out), print, partial=True)
else:
    convert_all(Path(root), Path(out), print, None, True, False)
"""


def run(root: Path, out: Path, kill_at: int, when: str, name: str = "") -> int:
    words = [sys.executable, "-c", WAIT, str(kill_at), when, name, str(root), str(out)]
    return subprocess.run(words, capture_output=True, cwd=ROOT).returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The raw files of two data sets, and their conversion without a kill; the second removes images from the first."""
    folder = tmp_path_factory.mktemp("sets")
    raw.write(folder / "raw", "refcoco", {"train": list(range(1, 30)), "val": [31], "testA": [32]})
    for split, images in (("train", [1, 2, 31]), ("val", [3, 4])):
        document = raw.instances(images, phrase="it")
        raw.write_files(folder / "raw", {f"coco/instances_{split}.json": document})
    assert run(folder / "raw", folder / "peace" / "data", 10**6, "after") == 0
    return folder / "raw", raw.content(folder / "peace")


# files: 7 of the first data set, its report last, 5 of the second, then 3 to remove images from the first
@pytest.mark.parametrize(
    ("kill_at", "when"),
    [
        (1, "before"),
        (2, "after"),
        (6, "before"),
        (7, "after"),
        (9, "before"),
        (12, "before"),
        (12, "after"),
        (13, "after"),
        (14, "after"),
        (15, "before"),
    ],
)
def test_a_run_killed_at_any_file_and_repeated_writes_the_same_bytes(tmp_path, undisturbed, kill_at, when):
    root, expected = undisturbed
    out = tmp_path / "data"
    assert run(root, out, kill_at, when) == -signal.SIGKILL
    assert run(root, out, 10**6, when) == 0
    assert raw.content(tmp_path) == expected


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """A data set, and the conversion of a second one that removes images from two of its splits."""
    folder = tmp_path_factory.mktemp("neighbours")
    first = [Sample(f"{number}", raw.file(number), 6, 4, "it", (), source="toy") for number in range(1, 30)]
    splits = {split: [replace(sample, split=split) for sample in first] for split in ("train", "train2")}
    turns = (Turn("user", "?"), Turn("assistant", "!"))
    talks = {"train": [Conversation(f"{number}", raw.file(number), 6, 4, turns, "toy", "train") for number in (3, 5)]}
    convert(
        RawDataset("toy", Path("/images"), splits, conversations=talks),
        folder,
        folder / "start" / "toy",
        False,
        False,
        str,
    )
    raw.write(folder / "raw", "refcoco", {"val": [3, 4]})
    shutil.copytree(folder / "start", folder / "peace" / "data")
    assert run(folder / "raw", folder / "peace" / "data" / "refcoco", 10**6, "after", "refcoco") == 0
    return folder, raw.content(folder / "peace")


# files: 3 of the second data set, then report, shard and index for each of the three splits of the first
@pytest.mark.parametrize(
    ("kill_at", "when"),
    [(4, "before"), (6, "before"), (6, "after"), (11, "after"), (12, "before"), (12, "after")],
)
def test_a_run_killed_while_pruning_and_repeated_writes_the_same_bytes(tmp_path, neighbours, kill_at, when):
    folder, expected = neighbours
    out = tmp_path / "data" / "refcoco"
    shutil.copytree(folder / "start", tmp_path / "data")
    assert run(folder / "raw", out, kill_at, when, "refcoco") == -signal.SIGKILL
    assert run(folder / "raw", out, 10**6, when, "refcoco") == 0
    assert raw.content(tmp_path) == expected
