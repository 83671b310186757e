import json
import pickle
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

import PIL.Image
import pytest

from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep import datasets
from sam4mllm.data_prep.datasets import READERS, format_overview
from sam4mllm.data_prep.sources import SOURCES, File
from tests.data_prep import raw
from tests.data_prep.server import send_file, send_status, serve
from tests.paths import ROOT
from tests.running import invoke, without_summary

SPLITS = {"train": [1, 2], "val": [3]}


def run(*words: str | Path):
    return invoke("data", *words)


def partial(name: str) -> list[str]:
    """The option with which a small data set is converted in spite of official counts."""
    return [] if name in ("coco", "labelme") else ["--partial"]


def put_everything(root: Path) -> Path:
    """Every data set that can be read without images."""
    for name in raw.FILES:
        raw.write(root, name, SPLITS)
    shape = {"label": "it", "shape_type": "rectangle", "points": [[1, 1], [2, 2]]}
    labelme = {"imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 6, "shapes": [shape]}
    return raw.write_files(root, {"coco/instances.json": raw.instances([1], phrase="it"), "labelme/a.json": labelme})


def test_every_source_has_a_reader_and_every_reader_a_source():
    assert set(SOURCES) == set(READERS)
    assert all(name == source.name for name, source in SOURCES.items())


@pytest.mark.parametrize("file", [file for source in SOURCES.values() for file in source.files], ids=lambda f: f.path)
def test_file_entries_are_valid(file: File):
    path = PurePosixPath(file.path)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert file.url is None or re.fullmatch(r"https?://\S+", file.url)
    assert file.bytes is None or file.bytes > 0
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert [field.name for field in fields(file)] == ["path", "description", "url", "bytes", "sha256"]


def test_an_empty_root_lists_the_missing_files_with_their_sources(tmp_path):
    result = run("all", "--root", tmp_path)
    assert result.exit_code == 0, result.output
    for source in SOURCES.values():
        assert f"{source.name} ({source.description}): missing" in result.output
        assert source.page in result.output
        for file in source.files:
            assert f"{file.path}, {file.description}: {file.url or 'see the page'}" in result.output
    assert "expected in" in result.output


def test_files_that_exist_are_not_listed_for_download(tmp_path):
    assert format_overview(tmp_path).count("images/train2014.zip") == 5
    (tmp_path / "images" / "train2014").mkdir(parents=True)
    assert "llava_instruct_150k.json, conversations: http" in format_overview(tmp_path)
    assert "images/train2014.zip" not in format_overview(tmp_path)


def test_all_present_data_sets_are_converted(tmp_path):
    root = put_everything(tmp_path / "raw")
    result = run("all", "--root", root, "--out", tmp_path / "data", "--partial")
    assert result.exit_code == 0, result.output
    names = {"refcoco", "refcoco+", "refcocog", "grefcoco", "coco", "labelme"}
    assert {path.name for path in (tmp_path / "data").iterdir()} == names
    assert all(len(read_samples(tmp_path / "data" / name / "train")) for name in names)
    assert "no images in images/train2014: all images count as missing" in result.output
    (root / "images" / "train2014").mkdir(parents=True)
    assert "no images in images/train2014" not in format_overview(root)


def test_a_failed_data_set_does_not_stop_the_others(tmp_path):
    root = put_everything(tmp_path / "raw")
    (root / "coco" / "instances.json").write_text("{")
    (root / "labelme" / "a.json").write_text("[]")
    result = run("all", "--root", root, "--out", tmp_path / "data", "--partial")
    assert result.exit_code == 2
    assert [line.partition(":")[2].split()[0] for line in result.stderr.splitlines()] == ["coco:", "labelme:"]
    assert len(read_samples(tmp_path / "data" / "grefcoco" / "train")) == 4


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-m", "data_prep.refcoco"], "refcoco"),
        (["-m", "data_prep.refcoco", "--dataset", "refcoco+"], "refcoco+"),
        (["-m", "data_prep.grefcoco"], "grefcoco"),
        (["-m", "data_prep.coco"], "coco"),
        (["-m", "data_prep.labelme"], "labelme"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_launcher_runs_its_command(tmp_path, words, name):
    root = put_everything(tmp_path / "raw")
    rest = ["--root", root, "--out", tmp_path / "here", *partial(name)]
    done = subprocess.run([sys.executable, *words, *map(str, rest)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, without_summary(done.stderr)) == (0, "")
    assert done.stderr.endswith(f"next: sam4mllm data preview {tmp_path / 'here' / 'train'}\n")
    assert read_samples(tmp_path / "here" / "train").samples[0].source == name


@pytest.mark.parametrize("name", ["coco", "labelme", "grefcoco"])
def test_the_root_itself_may_be_the_folder_of_the_set(tmp_path, name):
    root = put_everything(tmp_path / "raw") / name
    assert run(name, "--root", root, "--out", tmp_path / "here", *partial(name)).exit_code == 0
    assert len(read_samples(tmp_path / "here" / "train"))


def test_options_of_a_data_set_reach_its_reader(tmp_path):
    root = put_everything(tmp_path / "raw")
    words = ["--root", root, "--out", tmp_path / "here", "--partial"]
    refs = root / "refcocog" / "refs(umd).p"
    refs.rename(refs.with_name("refs(google).p"))
    assert run("refcocog", "--split-by", "google", *words, "--images", "/photos").exit_code == 0
    samples = read_samples(tmp_path / "here" / "train")
    assert samples.images == Path("/photos")
    assert samples.samples[0].id.startswith("refcocog-google-")
    words[3] = tmp_path / "mine"
    assert run("labelme", "--split", "val", *words[:-1]).exit_code == 0
    assert len(read_samples(tmp_path / "mine" / "val"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grefcoco", "--split-by", "unc"], "--split-by"),
        (["labelme", "--images", "photos"], "--images"),
        (["reasonseg", "--images", "photos"], "--images"),
        (["refcoco", "--split", "val"], "--split"),
        (["refcoco", "--split-by", "umd"], "choose one of unc, google"),
        (["coco", "--partial"], "--partial"),
        (["labelme", "--partial"], "--partial"),
        (["llava_instruct", "--partial"], "--partial"),
        (["all", "--split-by", "google"], "--split-by"),
        (["all", "--images", "photos"], "--images"),
    ],
)
def test_an_option_of_another_data_set_is_refused(tmp_path, words, message):
    result = run(*words, "--root", put_everything(tmp_path / "raw"), "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", READERS)
def test_a_missing_root_is_one_line(tmp_path, name):
    result = run(name, "--root", tmp_path / "gone", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr == f"error: no such folder: {tmp_path}/gone; --root is the folder of the raw files\n"


def test_all_reports_a_missing_root_before_the_missing_files(tmp_path):
    result = run("all", "--root", tmp_path / "gone")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"no such folder yet: {tmp_path}/gone\nrefcoco (RefCOCO): missing\n")


@pytest.mark.parametrize("home", ["ReasonSeg", "."])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_of_reasonseg_is_found_in_each_location_of_its_reader(tmp_path, home, split):
    (tmp_path / home / split).mkdir(parents=True)
    assert SOURCES["reasonseg"].missing_needs(tmp_path)
    (tmp_path / home / split / "1.json").write_text("{}")
    assert not SOURCES["reasonseg"].missing_needs(tmp_path)


def test_the_overview_finds_labelme_files_of_any_depth(tmp_path):
    root = put_everything(tmp_path / "raw")
    (root / "labelme" / "one" / "two" / "three").mkdir(parents=True)
    (root / "labelme" / "a.json").rename(root / "labelme" / "one" / "two" / "three" / "a.json")
    assert f"labelme ({SOURCES['labelme'].description}): found" in format_overview(root)


@pytest.mark.parametrize("name", ["refcoco", "grefcoco", "reasonseg"])
def test_a_present_data_set_is_converted_even_if_a_download_fails(tmp_path, monkeypatch, name):
    """gRefCOCO as a pickle, one split of ReasonSeg without explanations, and RefCOCO without images."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = put_everything(tmp_path / "raw")
    refs = json.loads((root / "grefcoco" / "grefs(unc).json").read_text())
    (root / "grefcoco" / "grefs(unc).json").unlink()
    (root / "grefcoco" / "grefs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    write_val(root / "ReasonSeg" / "val")
    if name != "refcoco":
        (root / "images" / "train2014").mkdir(parents=True)
    with serve(send_status(404)) as server:
        files = [replace(f, url=f.url and f"{server.address}/x.zip", bytes=None) for f in SOURCES[name].files]
        monkeypatch.setattr(datasets, "SOURCES", {name: replace(SOURCES[name], files=tuple(files))})
        result = run(name, "--root", root, "--out", tmp_path / "here", "--partial", "--download")
    assert result.exit_code == (2 if name == "refcoco" else 0), result.output
    assert ("404" in result.stderr) == (name == "refcoco")
    assert ("explanatory/train.json" in result.stdout) == (name == "reasonseg")
    assert len(read_samples(tmp_path / "here" / "val"))


def write_val(folder: Path) -> None:
    folder.mkdir(parents=True)
    PIL.Image.new("RGB", (6, 4)).save(folder / "a.jpg")
    shape = {"label": "target", "points": [[1, 1], [4, 1], [4, 3]]}
    (folder / "a.json").write_text(json.dumps({"text": ["it"], "is_sentence": False, "shapes": [shape]}))


def test_real_data_of_all_refer_data_sets_is_converted(real_data, tmp_path):
    result = run("all", "--root", real_data / "refcoco_real", "--out", tmp_path, "--partial")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"refcoco", "refcoco+", "refcocog"}
    assert "missing: " not in result.output.partition("->")[2]


def test_the_docs_name_every_data_set():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in READERS)


def test_missing_files_are_downloaded_on_request_and_converted(tmp_path, monkeypatch):
    """The files of the data set are only on a server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    raw.write(tmp_path / "there", "refcoco", SPLITS)
    files = {path.name: path.read_bytes() for path in (tmp_path / "there" / "refcoco").iterdir()}

    def reply(handler):
        send_file(files[unquote(handler.path).rsplit("/", 1)[-1]])(handler)

    with serve(reply) as server:
        files_of_source = tuple(File(f"refcoco/{name}", name, url=f"{server.address}/{quote(name)}") for name in files)
        source = replace(SOURCES["refcoco"], files=files_of_source)
        monkeypatch.setattr(datasets, "SOURCES", {"refcoco": source})
        without = run("all", "--root", tmp_path / "raw", "--out", tmp_path / "data", "--partial")
        assert without.exit_code == 0, without.output
        assert not server.requests
        assert not (tmp_path / "data").exists()
        result = run("all", "--root", tmp_path / "raw", "--out", tmp_path / "data", "--partial", "--download")
    assert result.exit_code == 0, result.output
    assert len(server.requests) == len(files)
    assert len(read_samples(tmp_path / "data" / "refcoco" / "train"))
