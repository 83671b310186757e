"""Downloads from a server on this machine."""

import hashlib
import io
import os
import re
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import pytest
from filelock import FileLock

from sam4mllm.data_prep import download as downloads
from sam4mllm.data_prep import sources, unpack
from sam4mllm.data_prep.download import download, download_file, format_plan
from sam4mllm.data_prep.sources import SOURCES, File, Source
from sam4mllm.errors import UserError
from sam4mllm.runtime.progress import byte_progress
from tests.data_prep.server import (
    CONTENT,
    OTHER,
    send_chunks,
    send_compressed,
    send_file,
    send_range,
    send_status,
    send_without_length,
    serve,
    silent,
    stall,
)
from tests.running import invoke

SIZE, SHA = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
KNOWN = {"bytes": SIZE, "sha256": SHA}
WRONG = bytes(SIZE)
DATE = "Mon, 02 Jun 2014 10:00:00 GMT"
CUT = 4 << 16
REST = f"bytes={CUT}-"
SCRIPT = """
import sys
from pathlib import Path
from sam4mllm.data_prep.download import download_file
from sam4mllm.data_prep.sources import File
from sam4mllm.runtime.progress import byte_progress
download_file(File("set.zip", "a set"), sys.argv[1], Path(sys.argv[2]), byte_progress)
"""


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The waits between attempts, which do not take place."""
    seconds = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "ATTEMPTS", 4)
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@contextmanager
def no_bar(name):
    yield lambda done, total: None


def fetch(server, root, bar=no_bar, **known):
    return download_file(File("set.zip", "a set", **known), f"{server.address}/set.zip", root / "set.zip", bar)


def start_process(server, root, before=""):
    words = [sys.executable, "-c", f"{before}{SCRIPT}", f"{server.address}/set.zip", str(root / "set.zip")]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def limit_disk(monkeypatch, free):
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def names(root):
    return sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize(
    ("replies", "known", "ranges"),
    [
        pytest.param([send_file()], {}, [None], id="at once"),
        pytest.param([send_file(cut=CUT), send_file()], {}, [None, REST], id="cut, then resumed"),
        pytest.param(
            [send_file(cut=CUT), send_file(cut=CUT // 4), send_file()],
            KNOWN,
            [None, REST, f"bytes={CUT + CUT // 4}-"],
            id="cut twice",
        ),
        pytest.param(
            [send_file(tag=None, date=DATE, cut=CUT), send_file(tag=None, date=DATE)], {}, [None, REST], id="by date"
        ),
        pytest.param([send_file(tag='W/"x"', cut=CUT), send_file(tag='W/"x"')], {}, [None, None], id="a weak tag"),
        pytest.param([send_file(tag=None, cut=CUT), send_file(tag=None)], {}, [None, None], id="no tag, no date"),
        pytest.param([send_file(tag=None, cut=CUT), send_file(tag=None)], KNOWN, [None, REST], id="no tag, a SHA-256"),
        pytest.param([send_file(cut=CUT), send_file(ranges=False)], KNOWN, [None, REST], id="ranges are ignored"),
        pytest.param([send_file(OTHER, '"two"', cut=CUT), send_file()], {}, [None, REST], id="the file was changed"),
        pytest.param(
            [send_file(OTHER, None, cut=CUT), send_file(tag=None), send_file(tag=None)],
            {"sha256": SHA},
            [None, REST, None],
            id="changed, only the size shows it",
        ),
        pytest.param(
            [send_file(WRONG, None, cut=CUT), send_file(tag=None), send_file(tag=None)],
            KNOWN,
            [None, REST, None],
            id="changed, only the SHA-256 shows it",
        ),
        pytest.param(
            [send_file(WRONG, '"two"', cut=CUT), send_file(careless=True), send_file()],
            {},
            [None, REST, None],
            id="changed, and If-Range is ignored",
        ),
        pytest.param([send_file(cut=CUT), send_range(5), send_file()], {}, [None, REST, None], id="another range"),
        pytest.param(
            [send_file(cut=CUT), send_range(CUT), send_file()],
            KNOWN,
            [None, REST, f"bytes={CUT + 5}-"],
            id="a part of the range",
        ),
        pytest.param([send_file(cut=CUT), send_status(416), send_file()], {}, [None, REST, None], id="416"),
        pytest.param([send_status(500), send_status(503), send_file()], {}, [None] * 3, id="500, 503"),
        pytest.param([send_status(429), send_file()], KNOWN, [None] * 2, id="429"),
        pytest.param([send_status(204), send_file()], {}, [None] * 2, id="204"),
        pytest.param([send_range(0), send_file()], {}, [None] * 2, id="a range without a request for it"),
        pytest.param(
            [send_file(cut=CUT), send_compressed, send_file()], {}, [None, REST, REST], id="cut, then compressed"
        ),
        pytest.param([send_file(WRONG), send_file()], KNOWN, [None] * 2, id="wrong bytes, then right ones"),
        pytest.param([send_file(OTHER), send_file()], {"bytes": SIZE}, [None] * 2, id="wrong size, then the right one"),
        pytest.param([send_file(announced=9), send_file()], {"sha256": SHA}, [None] * 2, id="a length too short"),
        pytest.param([send_status(302, Location="/moved"), send_file()], KNOWN, [None] * 2, id="a redirect"),
        pytest.param([silent, send_file()], KNOWN, [None] * 2, id="silence"),
        pytest.param([stall, send_file()], {}, [None, "bytes=327680-"], id="silence halfway"),
        pytest.param([send_chunks()], {}, [None], id="no length, in chunks"),
        pytest.param([send_chunks(cut=True), send_chunks()], {}, [None] * 2, id="cut between chunks"),
        pytest.param([send_without_length], {"bytes": SIZE}, [None], id="no length, but a known size"),
    ],
)
def test_a_file_arrives_complete(tmp_path, replies, known, ranges):
    with serve(*replies) as server:
        assert fetch(server, tmp_path, **known)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["set.zip"]
    assert server.ranges == ranges


@pytest.mark.parametrize(
    ("replies", "known", "message", "attempts"),
    [
        pytest.param([send_status(404)], {}, "the server answered 404 Not Found$", 1, id="404"),
        pytest.param(
            [send_status(503)], {}, "answered 503 .*; gave up after 4 attempts, nothing was kept", 4, id="503"
        ),
        pytest.param(
            [send_file(WRONG)], KNOWN, f"SHA-256 [0-9a-f]{{64}} instead of {SHA}; gave up", 4, id="wrong bytes"
        ),
        pytest.param([send_file(OTHER)], {"bytes": SIZE}, "has 650,000 bytes instead of 700,000", 4, id="wrong size"),
        pytest.param([send_chunks()], {"bytes": 9}, "700,000 bytes instead of 9", 4, id="wrong size, in chunks"),
        pytest.param([send_without_length], {}, "its size is unknown", 1, id="no length"),
        pytest.param([send_compressed], KNOWN, "sent the file compressed", 4, id="compressed"),
        pytest.param([silent], {}, "timed out; gave up after 4 attempts", 4, id="silence"),
        pytest.param([send_status(302, Location="/a")], {}, "Exceeded 30 redirects", 31, id="a loop of redirects"),
        pytest.param([send_status(302, Location="ftp://127.0.0.1/a")], {}, "ftp://127.0.0.1/a", 1, id="to ftp"),
        pytest.param([send_status(302, Location="file:///etc/passwd")], {}, "file:///etc/passwd", 1, id="to a file"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(tmp_path, replies, known, message, attempts):
    with serve(*replies) as server, pytest.raises(UserError, match=message) as caught:
        fetch(server, tmp_path, **known)
    assert "\n" not in str(caught.value)
    assert server.address in str(caught.value)
    assert names(tmp_path) == []
    assert len(server.requests) == attempts


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    with serve(silent) as server:
        pass
    with pytest.raises(UserError, match=r"cannot download http.*: .*Connection refused; gave up after 4 attempts"):
        fetch(server, tmp_path)


def test_the_next_run_resumes(tmp_path):
    with serve(send_file(cut=CUT), *[send_status(500)] * 4, send_file()) as server:
        with pytest.raises(UserError, match=r"run again to resume at byte 262,144"):
            fetch(server, tmp_path)
        assert names(tmp_path) == ["set.zip.part", "set.zip.part.json"]
        assert fetch(server, tmp_path)
    assert set(server.ranges[1:]) == {REST}
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_killed_run_resumes(tmp_path):
    part = tmp_path / "set.zip.part"
    with serve(stall, send_file()) as server:
        process = start_process(server, tmp_path)
        end = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < 100_000:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
        process.communicate()
        size = part.stat().st_size
        assert fetch(server, tmp_path)
    assert server.ranges == [None, f"bytes={size}-"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_disk_that_becomes_full_is_one_line_and_the_next_run_resumes(tmp_path):
    with serve(send_file()) as server:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({CUT}, {CUT}))"
        errors = start_process(server, tmp_path, limit).communicate()[1]
        assert re.search(r"UserError: cannot write .*set\.zip: File too large\n$", errors)
        assert fetch(server, tmp_path)
    assert server.ranges == [None, REST]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_complete_part_needs_no_request(tmp_path):
    with serve(send_file(cut=CUT), send_status(404)) as server:
        with pytest.raises(UserError, match="404"):
            fetch(server, tmp_path)
        (tmp_path / "set.zip.part").write_bytes(CONTENT)
        assert fetch(server, tmp_path, **KNOWN)
    assert len(server.requests) == 2


@pytest.mark.parametrize("info", [b"{", b"[]", b'{"url": "http://127.0.0.1/a", "stamp": "x", "size": 99}', None])
def test_a_part_of_unknown_origin_is_discarded(tmp_path, info):
    (tmp_path / "set.zip.part").write_bytes(b"something")
    if info is not None:
        (tmp_path / "set.zip.part.json").write_bytes(info)
    with serve(send_file()) as server:
        assert fetch(server, tmp_path)
    assert server.ranges == [None]
    assert names(tmp_path) == ["set.zip"]
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "known", "is_new"),
    [
        pytest.param(CONTENT, {}, False, id="nothing known"),
        pytest.param(WRONG, {"bytes": SIZE}, False, id="size known"),
        pytest.param(CONTENT, KNOWN, False, id="size and SHA-256 known"),
        pytest.param(WRONG, KNOWN, True, id="wrong bytes"),
        pytest.param(OTHER, {"bytes": SIZE}, True, id="wrong size"),
    ],
)
def test_a_file_that_is_there_is_not_downloaded_again(tmp_path, content, known, is_new):
    (tmp_path / "set.zip").write_bytes(content)
    with serve(send_file()) as server:
        assert fetch(server, tmp_path, **known) == is_new
    assert len(server.requests) == is_new
    assert (tmp_path / "set.zip").read_bytes() == (CONTENT if is_new else content)


def test_a_wrong_file_stays_until_the_right_one_is_complete(tmp_path):
    (tmp_path / "set.zip").write_bytes(OTHER)
    with serve(send_file(WRONG)) as server, pytest.raises(UserError, match="SHA-256"):
        fetch(server, tmp_path, **KNOWN)
    assert (tmp_path / "set.zip").read_bytes() == OTHER


def test_waits_double_until_new_bytes_arrive(tmp_path, waits):
    with serve(*[send_status(500)] * 3, send_file(cut=CUT), send_status(500), send_file()) as server:
        assert fetch(server, tmp_path)
    assert waits == [1, 2, 4, 1, 2]


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("100000", 60), ("9" * 5000, 60), ("soon", 1), ("-5", 1)])
def test_retry_after_is_respected_up_to_a_minute(tmp_path, waits, value, seconds):
    with serve(send_status(503, Retry_After=value), send_file()) as server:
        assert fetch(server, tmp_path)
    assert waits == [seconds]


def test_free_space_is_checked_before_the_first_byte(tmp_path, monkeypatch):
    limit_disk(monkeypatch, SIZE - 1)
    message = "set.zip needs 700,000 bytes below .*, but only 699,999 are free"
    with serve(send_file()) as server, pytest.raises(UserError, match=message):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_bytes_that_are_there_need_no_more_space(tmp_path, monkeypatch):
    with serve(send_file(cut=CUT), send_status(404), send_file()) as server:
        with pytest.raises(UserError, match="404"):
            fetch(server, tmp_path)
        limit_disk(monkeypatch, SIZE - CUT)
        assert fetch(server, tmp_path)


def test_two_runs_do_not_write_one_part(tmp_path):
    refuses = pytest.raises(UserError, match="another run is downloading")
    with FileLock(tmp_path / ".set.zip.lock"), serve(send_file()) as server, refuses:
        fetch(server, tmp_path)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((os.fstat(number).st_size, names(tmp_path))))
    with serve(send_file()) as server:
        fetch(server, tmp_path)
    assert synced[-1] == (SIZE, [".set.zip.lock", "set.zip.part", "set.zip.part.json"])


def test_progress_reaches_the_size_of_the_file(tmp_path):
    steps = []

    @contextmanager
    def bar(name):
        yield lambda done, total: steps.append((done, total))

    with serve(send_file(cut=CUT), send_file()) as server:
        fetch(server, tmp_path, bar)
    assert steps == sorted(steps)
    assert (CUT, SIZE) in steps
    assert steps[-1] == (SIZE, SIZE)


def test_the_bar_accepts_an_unknown_size(capsys):
    with byte_progress("a.zip") as progress:
        progress(5, None)
        progress(10, 10)
    assert "a.zip" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with serve(send_file()) as server, pytest.raises(UserError, match="cannot write"):
        fetch(server, tmp_path / "file")


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
        pictures=("images/train2014", "images/elsewhere"),
        files=(
            File("set.zip", "refs", url=f"{address}/set.zip"),
            File("images/train2014.zip", "pictures", url=f"{address}/train2014.zip", bytes=len(IMAGES)),
            *more,
        ),
    )


def run(source, root):
    lines = []
    by_hand = download(source, root, say=lines.append, bar=no_bar)
    return [*lines, by_hand] if by_hand else lines


def missing(source, root):
    return [file.path for file in source.missing_files(root)]


def test_a_data_set_is_downloaded_and_unpacked(tmp_path):
    with serve(send_by_path) as server:
        source = make_source(server.address)
        assert missing(source, tmp_path) == ["set.zip", "images/train2014.zip"]
        assert len(run(source, tmp_path)) == 4
        assert not source.missing(tmp_path)
        assert source.has_pictures(tmp_path)
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
def test_content_that_is_there_is_not_missing(tmp_path, paths, expected):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    assert missing(make_source(), tmp_path) == expected


def test_an_alternative_file_is_as_good(tmp_path):
    assert missing(SOURCES["grefcoco"], tmp_path)[0] == "grefcoco/grefs(unc).json"
    (tmp_path / "grefcoco").mkdir()
    (tmp_path / "grefcoco" / "grefs(unc).p").touch()
    assert missing(SOURCES["grefcoco"], tmp_path)[0] == "grefcoco/instances.json"


def test_a_folder_put_there_by_hand_is_not_missing(tmp_path):
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
    assert not source.missing(tmp_path)
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
        assert server.requests == []
        assert not (tmp_path / "raw").exists()
        result = invoke("data", "download", "set", "--root", tmp_path / "raw", "--yes")
    assert result.exit_code == 0, result.output
    assert "2 files unpacked; the archive may be removed" in result.stdout
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
    assert "training pictures of 2014, 13,510,573,713 bytes: http" in format_plan(SOURCES["refcoco"], tmp_path)
