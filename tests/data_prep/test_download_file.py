"""Single files from a server on this machine."""

import hashlib
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from filelock import FileLock

from sam4mllm.data_prep import unpack
from sam4mllm.data_prep.download import download_file
from sam4mllm.data_prep.sources import File
from sam4mllm.errors import UserError
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

pytestmark = pytest.mark.usefixtures("waits")
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


def no_bar(name):
    return nullcontext(lambda done, total: None)


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


def test_an_unreachable_server_is_one_line(tmp_path):
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
        assert errors.endswith(f"UserError: cannot write {tmp_path}/set.zip: File too large\n")
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
def test_a_present_file_is_not_downloaded_again(tmp_path, content, known, is_new):
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
    with serve(send_file()) as server, pytest.raises(UserError, match=r"needs 700,000 .*, but only 699,999 are free"):
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
    with serve(send_file(cut=CUT), send_file()) as server:
        fetch(server, tmp_path, lambda name: nullcontext(lambda *step: steps.append(step)))
    assert steps == sorted(steps)
    assert (CUT, SIZE) in steps
    assert steps[-1] == (SIZE, SIZE)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with serve(send_file()) as server, pytest.raises(UserError, match="cannot write"):
        fetch(server, tmp_path / "file")
