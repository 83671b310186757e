import io
import os
import re
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest

from sam4mllm.data_prep import download as command
from sam4mllm.data_prep.download import download, due, plan
from sam4mllm.data_prep.fetch import Patience
from sam4mllm.data_prep.remote import Remote
from sam4mllm.data_prep.sources import SOURCES, File, Source
from sam4mllm.errors import UserError
from sam4mllm.runtime.progress import byte_progress
from tests.data_prep.server import CONTENT, says, sends, serving
from tests.running import invoke


def packed(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


REFS = packed({"set/refs(unc).p": os.urandom(300_000), "set/instances.json": b"{}"})
PICTURES = packed({"train2014/a.jpg": b"a", "train2014/b.jpg": b"b"})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def serve_by_path(handler):
    """Each file at its own path."""
    name = handler.path.rsplit("/", 1)[-1]
    sends({"set.zip": REFS, "train2014.zip": PICTURES}.get(name, CONTENT))(handler)


def source(address, *more):
    return Source(
        "set",
        "a set",
        page="https://example.org/set",
        needs=(("set/refs(unc).p",), ("set/instances.json",)),
        pictures=("images/train2014", "images/elsewhere"),
        files=(
            File("set.zip", "refs", url=f"{address}/set.zip"),
            File("images/train2014.zip", "pictures", url=f"{address}/train2014.zip", bytes=len(PICTURES)),
            *more,
        ),
    )


def run(made, root, free=lambda folder: 10**12):
    said = []

    @contextmanager
    def bar(name):
        yield lambda at, total: None

    left = download(made, root, say=said.append, bar=bar, patience=Patience(2, 5, sleep=lambda _: None), free=free)
    return [*said, left] if left else said


def paths(files):
    return [file.path for file in files]


def test_a_set_is_fetched_and_unpacked_where_it_has_to_lie(tmp_path):
    with serving(serve_by_path) as server:
        made = source(server.address)
        assert paths(due(made, tmp_path)) == ["set.zip", "images/train2014.zip"]
        assert len(run(made, tmp_path)) == 4
        assert not made.missing(tmp_path)
        assert made.has_pictures(tmp_path)
        assert due(made, tmp_path) == []
        assert run(made, tmp_path) == []
    assert len(server.asked) == 2
    assert plan(made, tmp_path) == "set: all is there"


def test_a_run_that_broke_off_goes_on(tmp_path):
    with serving(sends(REFS, cut=100_000), says(404), serve_by_path) as server:
        made = source(server.address)
        with pytest.raises(UserError, match="404"):
            run(made, tmp_path)
        run(made, tmp_path)
    assert server.ranges == [None, "bytes=100000-", "bytes=100000-", None]
    assert due(made, tmp_path) == []


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param([], ["set.zip", "images/train2014.zip"], id="nothing"),
        pytest.param(["images/train2014/a.jpg"], ["set.zip"], id="pictures by hand"),
        pytest.param(["images/elsewhere/a.jpg"], ["set.zip"], id="pictures elsewhere"),
        pytest.param(["set/refs(unc).p", "set/instances.json"], ["images/train2014.zip"], id="refs by hand"),
        pytest.param(["set/refs(unc).p"], ["set.zip", "images/train2014.zip"], id="half of the refs"),
        pytest.param(
            ["images/train2014/a.jpg", "images/train2014.zip", "set/refs(unc).p", "set/instances.json"],
            ["images/train2014.zip"],
            id="unpacked in part",
        ),
    ],
)
def test_what_is_there_is_not_due(tmp_path, there, expected):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert paths(due(source("http://127.0.0.1:1"), tmp_path)) == expected


def test_what_meets_the_same_need_is_as_good(tmp_path):
    made = SOURCES["grefcoco"]
    assert "grefcoco/grefs(unc).json" in paths(due(made, tmp_path))
    (tmp_path / "grefcoco").mkdir()
    (tmp_path / "grefcoco" / "grefs(unc).p").touch()
    assert "grefcoco/grefs(unc).json" not in paths(due(made, tmp_path))
    assert "grefcoco/instances.json" in paths(due(made, tmp_path))


def test_a_folder_put_there_by_hand_is_not_due(tmp_path):
    made = replace(source("http://127.0.0.1:1"), files=(File("set/val", "a folder of pictures"),))
    assert paths(due(made, tmp_path)) == ["set/val"]
    (tmp_path / "set" / "val").mkdir(parents=True)
    assert due(made, tmp_path) == []


def test_an_unpacked_archive_may_be_removed(tmp_path):
    with serving(serve_by_path) as server:
        made = source(server.address)
        run(made, tmp_path)
        (tmp_path / "set.zip").unlink()
        (tmp_path / "images" / "train2014.zip").unlink()
        assert due(made, tmp_path) == []


def test_a_page_in_the_place_of_an_archive_is_told(tmp_path):
    message = r"set\.zip is damaged or no archive, remove it and get it again"
    with serving(sends(b"<html>not here any more</html>")) as server, pytest.raises(UserError, match=message):
        run(source(server.address), tmp_path)


def test_what_has_no_address_is_told_after_the_rest_is_there(tmp_path):
    with serving(serve_by_path) as server:
        made = source(server.address, File("set/extra.json", "more"), File("set/there.json", "at hand"))
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "there.json").write_text("{}")
        assert re.search(r"see https://example.org/set; due in .*: set/extra.json$", run(made, tmp_path)[-1])
    assert not made.missing(tmp_path)
    assert made.has_pictures(tmp_path)
    assert "set/extra.json, more, of unknown size: by hand, see https://example.org/set" in plan(made, tmp_path)


def test_all_that_is_due_has_to_fit_before_anything_is_fetched(tmp_path):
    with serving(serve_by_path) as server:
        made = source(server.address)
        made = replace(made, files=(replace(made.files[0], bytes=len(REFS)), made.files[1]))
        whole = len(REFS) + len(PICTURES)
        with pytest.raises(UserError, match=f"set needs {whole:,} bytes"):
            run(made, tmp_path, free=lambda folder: whole - 1)
        assert server.asked == []
        (tmp_path / "set.zip.part").write_bytes(REFS[:1000])
        with pytest.raises(UserError, match=f"set needs {whole - 1000:,} bytes"):
            run(made, tmp_path, free=lambda folder: 1)


def test_nothing_is_fetched_unless_it_is_asked_for(tmp_path, monkeypatch):
    with serving(serve_by_path) as server:
        monkeypatch.setattr(command, "SOURCES", MappingProxyType({"set": source(server.address)}))
        told = invoke("data", "download", "set", "--root", tmp_path / "raw")
        assert told.exit_code == 0
        assert told.stdout.splitlines() == [
            f"set.zip, refs, of unknown size: {server.address}/set.zip",
            f"images/train2014.zip, pictures, {len(PICTURES)} bytes: {server.address}/train2014.zip",
        ]
        assert server.asked == []
        assert not (tmp_path / "raw").exists()
        done = invoke("data", "download", "set", "--root", tmp_path / "raw", "--yes")
        assert done.exit_code == 0, done.output
        assert "2 files unpacked; it may be removed" in done.stdout
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refclef"], "choose one of refcoco, refcoco+"),
        (["grefcoco", "--yes"], "cannot"),
        (["reasonseg", "--yes"], "reasonseg has files without an address"),
        (
            ["coco"],
            "coco is your own data, as COCO's instances JSON: nothing to fetch; `sam4mllm data coco --help` says where",
        ),
        (["labelme", "--yes"], "labelme is your own data, as LabelMe's files: nothing to fetch"),
    ],
    ids=["no such set", "no network", "by hand", "your own", "your own, at once"],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, words, message):
    def refused(*_, **__):
        raise UserError("cannot fetch it")

    monkeypatch.setattr(command, "fetch", refused)
    result = invoke("data", "download", *words, "--root", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("name", SOURCES)
def test_every_row_of_the_table_can_be_fetched_or_is_told(tmp_path, name):
    for file in SOURCES[name].files:
        Remote(file.path, file.url, file.bytes, file.sha256)  # refuses what makes no sense
    assert len(plan(SOURCES[name], tmp_path).splitlines()) == max(len(SOURCES[name].files), 1)


def test_the_size_of_the_pictures_is_the_published_one(tmp_path):
    assert "training pictures of 2014, 13,510,573,713 bytes: http" in plan(SOURCES["refcoco"], tmp_path)


def test_the_bar_takes_what_is_told(capsys):
    with byte_progress("a.zip") as tell:
        tell(5, None)
        tell(10, 10)
    assert "a.zip" in capsys.readouterr().err
