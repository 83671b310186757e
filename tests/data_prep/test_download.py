"""Whole data sets from a server on this machine."""

import io
import os
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType

import pytest

from sam4mllm.data_prep import sources
from sam4mllm.data_prep.download import download, format_plan
from sam4mllm.data_prep.sources import SOURCES, File, Source
from sam4mllm.errors import UserError
from sam4mllm.runtime.progress import byte_progress
from tests.data_prep.server import send_file, serve
from tests.running import invoke

pytestmark = pytest.mark.usefixtures("waits")


def no_bar(name):
    return nullcontext(lambda done, total: None)


def pack(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


REFS = pack({"set/refs(unc).p": os.urandom(300_000), "set/instances.json": b"{}"})
IMAGES = pack({"train2014/a.jpg": b"a", "train2014/b.jpg": b"b"})


def send_by_path(handler):
    send_file({"/set.zip": REFS, "/train2014.zip": IMAGES}[handler.path])(handler)


def make_source(address="http://127.0.0.1:1", *more):
    return Source(
        "set",
        "a set",
        page="https://example.org/set",
        needs=(("set/refs(unc).p",), ("set/instances.json",)),
        image_folders=("images/train2014", "images/elsewhere"),
        files=(
            File("set.zip", "refs", url=f"{address}/set.zip"),
            File("images/train2014.zip", "pictures", url=f"{address}/train2014.zip", bytes=len(IMAGES)),
            *more,
        ),
    )


def run(source, root):
    lines = []
    by_hand = download(source, root, print_line=lines.append, bar=no_bar)
    return [*lines, by_hand] if by_hand else lines


def missing(source, root):
    return [file.path for file in source.missing_files(root)]


def test_a_data_set_is_downloaded_and_unpacked(tmp_path):
    with serve(send_by_path) as server:
        source = make_source(server.address)
        assert missing(source, tmp_path) == ["set.zip", "images/train2014.zip"]
        assert len(run(source, tmp_path)) == 4
        assert not source.missing_needs(tmp_path)
        assert source.has_images(tmp_path)
        assert run(source, tmp_path) == []
        (tmp_path / "set.zip").unlink()
        (tmp_path / "images" / "train2014.zip").unlink()
        assert run(source, tmp_path) == []
    assert len(server.requests) == 2
    assert format_plan(source, tmp_path) == "set: all files are there"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param([], ["set.zip", "images/train2014.zip"], id="nothing"),
        pytest.param(["images/train2014/a.jpg"], ["set.zip"], id="images by hand"),
        pytest.param(["images/elsewhere/a.jpg"], ["set.zip"], id="images elsewhere"),
        pytest.param(["set/refs(unc).p", "set/instances.json"], ["images/train2014.zip"], id="refs by hand"),
        pytest.param(["set/refs(unc).p"], ["set.zip", "images/train2014.zip"], id="half of the refs"),
        pytest.param(
            ["images/train2014/a.jpg", "images/train2014.zip", "set/refs(unc).p", "set/instances.json"],
            ["images/train2014.zip"],
            id="unpacked in part",
        ),
    ],
)
def test_present_content_is_not_missing(tmp_path, paths, expected):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    assert missing(make_source(), tmp_path) == expected


def test_an_alternative_file_is_not_missing(tmp_path):
    assert missing(SOURCES["grefcoco"], tmp_path)[0] == "grefcoco/grefs(unc).json"
    (tmp_path / "grefcoco").mkdir()
    (tmp_path / "grefcoco" / "grefs(unc).p").touch()
    assert missing(SOURCES["grefcoco"], tmp_path)[0] == "grefcoco/instances.json"


def test_a_folder_added_by_hand_is_not_missing(tmp_path):
    source = replace(make_source(), files=(File("set/val", "a folder of pictures"),))
    assert missing(source, tmp_path) == ["set/val"]
    (tmp_path / "set" / "val").mkdir(parents=True)
    assert missing(source, tmp_path) == []


def test_an_html_page_instead_of_an_archive_is_one_line(tmp_path):
    message = r"set\.zip is damaged or encrypted: remove it and download it again"
    with serve(send_file(b"<html>moved</html>")) as server, pytest.raises(UserError, match=message):
        run(make_source(server.address), tmp_path)


def test_files_without_a_url_are_listed_after_the_others_are_downloaded(tmp_path):
    with serve(send_by_path) as server:
        source = make_source(server.address, File("set/extra.json", "more"), File("set/there.json", "at hand"))
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "there.json").write_text("{}")
        assert run(source, tmp_path)[-1].endswith(f"/set and put them in {tmp_path}: set/extra.json")
    assert not source.missing_needs(tmp_path)
    assert format_plan(source, tmp_path) == "set/extra.json, more, unknown size: by hand, see https://example.org/set"


def test_nothing_is_downloaded_without_yes(tmp_path, monkeypatch):
    with serve(send_by_path) as server:
        monkeypatch.setattr(sources, "SOURCES", MappingProxyType({"set": make_source(server.address)}))
        plan = invoke("data", "download", "set", "--root", tmp_path / "raw")
        assert plan.exit_code == 0
        assert plan.stdout.splitlines() == [
            f"set.zip, refs, unknown size: {server.address}/set.zip",
            f"images/train2014.zip, pictures, {len(IMAGES)} bytes: {server.address}/train2014.zip",
        ]
        assert plan.stderr == f"next: sam4mllm data download set --root {tmp_path / 'raw'} --yes\n"
        assert server.requests == []
        assert not (tmp_path / "raw").exists()
        result = invoke("data", "download", "set", "--root", tmp_path / "raw", "--yes")
    assert result.exit_code == 0, result.output
    assert "2 files unpacked; the archive may be removed" in result.stdout
    assert result.stderr.splitlines()[-1] == f"next: sam4mllm data set --root {tmp_path / 'raw'}"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refclef"], "unknown data set 'refclef': choose one of refcoco, refcoco+"),
        (["grefcoco", "--yes"], "cannot download http://images.cocodataset.org/zips/train2014.zip: "),
        (["reasonseg", "--yes"], "reasonseg has files without a URL: see https://github.com/dvlab-research/LISA"),
        (["coco"], "coco is your own data, as COCO's instances JSON: nothing to download; see `sam4mllm data coco"),
        (["labelme", "--yes"], "labelme is your own data, as LabelMe's files: nothing to download"),
    ],
    ids=["unknown", "no network", "by hand", "your own", "your own, with --yes"],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    result = invoke("data", "download", *words, "--root", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize("name", SOURCES)
def test_the_plan_has_a_line_for_every_file(tmp_path, name):
    assert len(format_plan(SOURCES[name], tmp_path).splitlines()) == max(len(SOURCES[name].files), 1)


def test_the_size_of_the_images_is_the_published_one(tmp_path):
    assert "training images of 2014, 13,510,573,713 bytes: http" in format_plan(SOURCES["refcoco"], tmp_path)


def test_the_bar_accepts_an_unknown_size(capsys):
    with byte_progress("a.zip") as progress:
        progress(5, None)
        progress(10, 10)
    assert "a.zip" in capsys.readouterr().err
