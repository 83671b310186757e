import json
import pickle
from itertools import permutations
from pathlib import Path

import pytest

from sam4mllm.data.conversations import Conversation, read_conversations
from sam4mllm.data.samples import Sample, read_samples
from sam4mllm.data_prep.checks.leaks import find_image_ids
from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.datasets import READERS
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.readers import coco, refcoco
from sam4mllm.language.messages import Turn
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error

# each data set trains on evaluation images of another one; only 9 is in no evaluation split
SPLITS = {
    "refcoco": {"train": [1, 2, 3, 9], "val": [4], "testAB": [5]},
    "refcoco+": {"train": [4, 3, 9], "val": [1], "testA": [6]},
    "refcocog": {"train": [1, 4, 5, 6, 9], "val": [7], "test": [2]},
    "grefcoco": {"train": [7, 2, 9], "val": [3], "testB": [8]},
}


def make(name: str, root: Path, out: Path, keep_leaks: bool = False) -> list[str]:
    lines: list[str] = []
    convert(READERS[name](root), root, out / name, True, keep_leaks, lines.append)
    return lines


def trained(folder: Path) -> set[int]:
    return {int(sample.image[-16:-4]) for sample in read_samples(folder / "train")}


def write_all(root: Path, names=tuple(SPLITS)) -> Path:
    for name in names:
        raw.write(root, name, SPLITS[name])
    return root


@pytest.mark.parametrize("name", SPLITS)
def test_evaluation_images_of_any_data_set_below_the_root_are_not_trained_on(tmp_path, name):
    root = write_all(tmp_path / "raw")
    make(name, root, tmp_path / "out")
    assert trained(tmp_path / "out" / name) == {9}
    part = json.loads((tmp_path / "out" / name / "report.json").read_text())["splits"]["train"]
    count = len(SPLITS[name]["train"])
    assert part.pop("official")["refs"] > 40_000
    assert part == {
        "refs": count,
        "sentences": 2 * count,
        "pictures": count,
        "without_target": 0,
        "kept": {"sentences": 2, "pictures": 1},
    }


def test_refs_in_the_root_itself_are_held_out(tmp_path):
    root = write_all(tmp_path / "raw", ("refcoco", "grefcoco"))
    [refs] = (root / "grefcoco").glob("grefs(unc).*")
    refs.rename(root / refs.name)
    make("refcoco", root, tmp_path / "out")
    assert trained(tmp_path / "out" / "refcoco") == {1, 2, 9}


def test_evaluation_splits_are_unchanged(tmp_path):
    root = write_all(tmp_path / "raw")
    make("refcoco", root, tmp_path / "out")
    for split in ("val", "testA", "testB"):
        assert len(read_samples(tmp_path / "out" / "refcoco" / split)) == 2


def test_leaks_are_kept_on_demand(tmp_path):
    root = write_all(tmp_path / "raw")
    lines = make("refcoco", root, tmp_path / "out", keep_leaks=True)
    make("refcoco+", root, tmp_path / "out")
    assert trained(tmp_path / "out" / "refcoco") == {1, 2, 3, 9}
    assert "leaks are kept" in lines[0]


@pytest.mark.parametrize("apart", [False, True], ids=["one root", "a root for each"])
def test_the_order_of_conversion_does_not_matter(tmp_path, apart):
    roots = {name: tmp_path / (name if apart else "raw") for name in SPLITS}
    for name, root in roots.items():
        raw.write(root, name, SPLITS[name])
    outs = []
    for number, order in enumerate(list(permutations(SPLITS))[::5]):
        out = tmp_path / "out" / str(number)
        for name in order:
            make(name, roots[name], out)
        outs.append(raw.content(out))
    assert all(content == outs[0] for content in outs)
    assert {name: trained(tmp_path / "out" / "0" / name) for name in SPLITS} == {name: {9} for name in SPLITS}


def test_rows_that_a_later_data_set_removes_are_reported(tmp_path):
    for name in ("refcoco", "refcoco+"):
        raw.write(tmp_path / name, name, SPLITS[name])
    make("refcoco", tmp_path / "refcoco", tmp_path / "out")
    assert trained(tmp_path / "out" / "refcoco") == {1, 2, 3, 9}
    lines = make("refcoco+", tmp_path / "refcoco+", tmp_path / "out")
    assert trained(tmp_path / "out" / "refcoco") == {2, 3, 9}
    assert (
        lines[-1]
        == f"{tmp_path / 'out' / 'refcoco' / 'train'}: removed 2 rows, as their images are now in an evaluation split"
    )


@pytest.mark.parametrize("out", [".", "../refcoco+", "x/.."])
def test_the_working_directory_has_siblings_too(tmp_path, monkeypatch, out):
    for name in ("refcoco", "refcoco+"):
        raw.write(tmp_path / name, name, SPLITS[name])
    make("refcoco", tmp_path / "refcoco", tmp_path / "out")
    (tmp_path / "out" / "refcoco+" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "refcoco+")
    convert(refcoco.prepare(tmp_path / "refcoco+", "refcoco+"), tmp_path / "refcoco+", Path(out), True, False, str)
    assert trained(tmp_path / "out" / "refcoco") == {2, 3, 9}
    assert trained(tmp_path / "out" / "refcoco+") == {3, 9}


def test_conversations_are_guarded_too(tmp_path):
    root = write_all(tmp_path / "raw", ["refcoco"])
    turns = (Turn("user", "?"), Turn("assistant", "!"))
    images = (raw.file(4), "000000000004.jpg", "000000000009.jpg")
    talks = [Conversation(image, image, 6, 4, turns, "said", "train") for image in images]
    reading = refcoco.prepare(root, "refcoco")
    lines = type(reading)("said", tmp_path / "elsewhere", conversations={"train": talks})
    convert(lines, tmp_path / "none", tmp_path / "out" / "said", False, False, str)
    assert len(read_conversations(tmp_path / "out" / "said" / "train")) == 3
    make("refcoco", root, tmp_path / "out")
    assert [talk.id for talk in read_conversations(tmp_path / "out" / "said" / "train")] == ["000000000009.jpg"]
    before = raw.content(tmp_path / "out")
    convert(lines, tmp_path / "none", tmp_path / "out" / "said", False, False, str)
    assert raw.content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("refs", "message"),
    [
        (b"damaged", r"cannot read the pickle \S+/refcoco\+/refs\(unc\)\.p"),
        (
            [{"split": "val"}],
            r"/refcoco\+/refs\(unc\)\.p: ref None is not in the format of REFER: missing or unknown: 'image_id'",
        ),
        (
            [{"split": "val", "image_id": "x"}],
            r"/refcoco\+/refs\(unc\)\.p: ref None is .*: expected an integer, got 'x'",
        ),
        (
            [{"split": "val", "image_id": [1]}],
            r"/refcoco\+/refs\(unc\)\.p: ref None is .*: expected an integer, got \[1\]",
        ),
        ([{"image_id": 1, "ref_id": 7}], r"/refcoco\+/refs\(unc\)\.p: ref 7: unknown split None"),
    ],
    ids=["damaged", "no image", "a word", "a list", "no split"],
)
def test_unreadable_refs_stop_the_conversion(tmp_path, refs, message):
    root = write_all(tmp_path / "raw")
    (root / "refcoco+" / "refs(unc).p").write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs))
    with one_line_error(message):
        make("refcoco", root, tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [
        ("train2014/COCO_train2014_000000520199.jpg", "train2017/000000520199.jpg", True),
        ("COCO_val2014_000000520199.jpg", "000000520199.jpg", True),
        ("a/000000520199.jpg", "a/000000520198.jpg", False),
        ("a/photo.jpg", "a/photo.jpg", True),
        ("a/photo.jpg", "b/photo.jpg", False),
        ("a/0520199.jpg", "b/0520199.jpg", False),
        ("a/x000000520199.jpg", "b/000000520199.jpg", False),
        ("COCO_train2014_000000520199.png", "COCO_train2014_000000520199.JPG", True),
        ("000000520199.jpeg", "000000520199.jpg", True),
        ("a/000000520199.webp", "b/COCO_train2014_000000520199.BMP", True),
        ("a/000000520199", "b/000000520199", False),
    ],
)
def test_images_are_identified_by_coco_id_or_path(first, other, same):
    ids = find_image_ids(Path("images"), [first, other])
    assert (ids[first] == ids[other]) == same
    if "520199" in first and same:
        assert find_image_ids(Path("here"), [first])[first] == find_image_ids(Path("there"), [other])[other]


def test_image_roots_that_are_links_to_one_folder_hold_the_same_images(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, split in (("one", "train"), ("two", "val")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "images").symlink_to(tmp_path / "photos")
        document = raw.instances([1], phrase="it")
        document["images"][0]["file_name"] = "p.jpg"
        raw.write_files(folder, {f"instances_{split}.json": document})
    for order in (("one", "two"), ("two", "one")):
        out = tmp_path / "-".join(order)
        for name in order:
            convert(coco.prepare(tmp_path / name), tmp_path / name, out / name, False, False, str)
        assert len(read_samples(out / "one" / "train")) == 0


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [
        pytest.param("photos/p.jpg", "photos/p.jpg", True, id="itself"),
        pytest.param("photos/p.jpg", "photos/q.jpg", False, id="another"),
        pytest.param("photos/p.jpg", "photos/../photos/p.jpg", True, id="another way to it"),
        pytest.param("photos/p.jpg", "photos/a link.jpg", True, id="a link to it"),
        pytest.param("photos/p.jpg", "far/p.jpg", True, id="in a folder that is a link"),
        pytest.param("photos/p.jpg", "far/a link.jpg", True, id="a link in a folder that is one"),
        pytest.param("photos/p.jpg", "copy/p.jpg", False, id="the same name elsewhere"),
        pytest.param("photos/000000000009.jpg", "photos/mine.jpg", True, id="a link to COCO's, which is missing"),
        pytest.param("photos/000000000009.jpg", "photos/p.jpg", False, id="not COCO's"),
        pytest.param("photos/round.jpg", "photos/p.jpg", False, id="a link in a circle"),
    ],
)
def test_an_image_has_the_same_id_through_links_and_roots(tmp_path, first, other, same):
    for folder in ("photos", "copy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.jpg").touch()
    (tmp_path / "far").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "a link.jpg").symlink_to("p.jpg")
    (tmp_path / "photos" / "mine.jpg").symlink_to("COCO_train2014_000000000009.jpg")
    (tmp_path / "photos" / "round.jpg").symlink_to("round.jpg")
    first_id = find_image_ids(tmp_path, [first])[first]
    root, name = tmp_path / other.rpartition("/")[0], other.rpartition("/")[2]
    assert (first_id == find_image_ids(tmp_path, [other])[other] == find_image_ids(root, [name])[name]) == same


@pytest.mark.parametrize("split", ["dev", "minival2014", "test-dev", "mine"])
def test_splits_of_unknown_names_are_held_out_and_reported(tmp_path, split):
    images = tuple(Sample(name, f"{name}.jpg", 6, 4, "it", (), split=split) for name in ("a", "b"))
    training = RawDataset("own", tmp_path, splits={"Train2": [images[0]], split: images[:1], "train": images})
    lines: list[str] = []
    convert(training, tmp_path, tmp_path / "out" / "own", False, False, lines.append)
    assert len(read_samples(tmp_path / "out" / "own" / "Train2")) == 0
    assert [sample.id for sample in read_samples(tmp_path / "out" / "own" / "train")] == ["b"]
    assert (f"{split}: used for evaluation only" in lines[0]) == (split != "test-dev")


def test_other_splits_of_the_same_data_set_are_held_out(tmp_path):
    root = raw.write(tmp_path / "raw", "refcoco", {"train": [1, 2], "val": [3]})
    (root / "refcoco" / "refs(unc).p").rename(root / "refcoco" / "refs(google).p")
    raw.write(root, "refcoco", {"train": [2, 3], "val": [1]})
    raw.write_files(root, {"refcoco/instances.json": raw.instances((1, 2, 3))})
    convert(refcoco.prepare(root, "refcoco", "google"), root, tmp_path / "google", True, False, str)
    assert trained(tmp_path / "google") == {2}
    convert(refcoco.prepare(root, "refcoco"), root, tmp_path / "other" / "unc", True, False, str)
    assert trained(tmp_path / "other" / "unc") == {2, 3}
