import hashlib
import os
import re
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from sam4mllm.data_prep import transfer
from sam4mllm.data_prep.fetch import Patience, fetch
from sam4mllm.data_prep.remote import Remote, is_whole
from sam4mllm.errors import UserError
from tests.data_prep.server import (
    CONTENT,
    OTHER,
    chunked,
    endless,
    other_part,
    packed,
    says,
    sends,
    serving,
    silent,
    stalls,
    unasked,
)

SIZE, SHA = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
KNOWN = {"size": SIZE, "sha256": SHA}
WRONG = bytes(SIZE)
DATE = "Mon, 02 Jun 2014 10:00:00 GMT"
CUT = 300_000
FETCH = """
import sys
from pathlib import Path
from sam4mllm.data_prep.fetch import fetch
from sam4mllm.data_prep.remote import Remote
fetch(Remote("a/set.zip", sys.argv[1]), Path(sys.argv[2]))
"""


class Waits(list):
    """Instead of sleeping: what was to be slept."""

    def patience(self, tries=4, timeout=5.0):
        return Patience(tries, timeout, sleep=self.append)


def got(server, root, waits=None, tries=4, timeout=5.0, free=lambda folder: 10**12, **known):
    """What `fetch` returns; `got` from the server into root/a/set.zip."""
    remote = Remote("a/set.zip", f"{server.address}/set.zip", **known)
    patience = (waits if waits is not None else Waits()).patience(tries, timeout)
    return fetch(remote, root, patience=patience, free=free)


def names(root):
    return sorted(path.name for path in (root / "a").iterdir())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize(
    ("replies", "known", "ranges"),
    [
        pytest.param([sends()], {}, [None], id="at once"),
        pytest.param([sends()], KNOWN, [None], id="at once, checked"),
        pytest.param([sends(cut=CUT), sends()], {}, [None, f"bytes={CUT}-"], id="cut, then continued"),
        pytest.param(
            [sends(cut=CUT), sends(cut=1), sends(cut=1), sends()],
            KNOWN,
            [None, f"bytes={CUT}-", f"bytes={CUT + 1}-", f"bytes={CUT + 2}-"],
            id="cut three times",
        ),
        pytest.param(
            [sends(tag=None, date=DATE, cut=CUT), sends(tag=None, date=DATE)], {}, [None, f"bytes={CUT}-"], id="by date"
        ),
        pytest.param(
            [sends(tag='W/"x"', date=None, cut=CUT), sends(tag='W/"x"')], {}, [None, None], id="a weak tag says nothing"
        ),
        pytest.param(
            [sends(tag=None, cut=CUT), sends(tag=None)], {}, [None, None], id="no tag, no date: from the start"
        ),
        pytest.param(
            [sends(tag=None, cut=CUT), sends(tag=None)], KNOWN, [None, f"bytes={CUT}-"], id="no tag, but a checksum"
        ),
        pytest.param(
            [sends(cut=CUT), sends(ranges=False)], KNOWN, [None, f"bytes={CUT}-"], id="a server that ignores ranges"
        ),
        pytest.param([sends(OTHER, '"two"', cut=CUT), sends()], {}, [None, f"bytes={CUT}-"], id="the file was changed"),
        pytest.param(
            [sends(OTHER, None, cut=CUT), sends(tag=None), sends(tag=None)],
            {"sha256": SHA},
            [None, f"bytes={CUT}-", None],
            id="changed, and only the size tells",
        ),
        pytest.param(
            [sends(WRONG, None, cut=CUT), sends(tag=None), sends(tag=None)],
            KNOWN,
            [None, f"bytes={CUT}-", None],
            id="changed, and only the checksum tells",
        ),
        pytest.param(
            [sends(OTHER, '"two"', cut=CUT), sends(tag=None, careless=True), sends()],
            {},
            [None, f"bytes={CUT}-", None],
            id="the rest of a file of another size",
        ),
        pytest.param(
            [sends(WRONG, '"two"', cut=CUT), sends(careless=True), sends()],
            {},
            [None, f"bytes={CUT}-", None],
            id="the rest of a file of another tag",
        ),
        pytest.param(
            [sends(cut=CUT), other_part, sends()], {}, [None, f"bytes={CUT}-", None], id="another part than asked for"
        ),
        pytest.param(
            [sends(cut=CUT), says(416), sends()], {}, [None, f"bytes={CUT}-", None], id="the part is too long now"
        ),
        pytest.param([says(500), says(503), sends()], {}, [None] * 3, id="500, 503"),
        pytest.param([unasked, sends()], {}, [None] * 2, id="a part that nobody asked for"),
        pytest.param([says(204), sends()], {}, [None] * 2, id="204, nothing there"),
        pytest.param([says(203), sends()], {}, [None] * 2, id="203, somebody else's word"),
        pytest.param([packed, sends()], {}, [None] * 2, id="packed"),
        pytest.param(
            [sends(cut=CUT), says(204), packed, sends()], {}, [None, *[f"bytes={CUT}-"] * 3], id="cut, then nonsense"
        ),
        pytest.param([says(429), sends()], KNOWN, [None] * 2, id="429"),
        pytest.param([sends(WRONG), sends()], KNOWN, [None] * 2, id="wrong bytes, then right ones"),
        pytest.param([sends(OTHER), sends()], {"size": SIZE}, [None] * 2, id="a wrong size, then the right one"),
        pytest.param(
            [sends(announced=SIZE + 9), sends(), sends()], {}, [None, f"bytes={SIZE}-", None], id="announced too long"
        ),
        pytest.param([sends(announced=9), sends()], {"size": SIZE}, [None] * 2, id="announced too short"),
        pytest.param(
            [sends(announced=9), sends(ranges=False)], {"sha256": SHA}, [None] * 2, id="too short, a checksum"
        ),
        pytest.param([says(302, Location="/moved"), sends()], KNOWN, [None] * 2, id="moved"),
        pytest.param([silent, sends()], KNOWN, [None] * 2, id="silence"),
        pytest.param([stalls, sends()], {}, [None, f"bytes={SIZE // 2}-"], id="silence in the middle"),
        pytest.param([chunked()], {}, [None], id="no length, in chunks"),
        pytest.param([chunked(cut=True), chunked()], {}, [None] * 2, id="cut between chunks"),
        pytest.param([endless], {"size": SIZE}, [None], id="no length, but the table has it"),
        pytest.param([endless], {"sha256": SHA}, [None], id="no length, but the table has the checksum"),
    ],
)
def test_the_file_comes_whole(tmp_path, replies, known, ranges):
    with serving(*replies) as server:
        assert got(server, tmp_path, timeout=0.5 if {silent, stalls} & set(replies) else 5, **known)
    assert (tmp_path / "a" / "set.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["set.zip"]
    assert server.ranges == ranges


@pytest.mark.parametrize(
    ("replies", "known", "message", "asked", "left"),
    [
        pytest.param([says(404)], {}, "the server says 404 Not Found", 1, [], id="404"),
        pytest.param([says(403)], KNOWN, "the server says 403", 1, [], id="403"),
        pytest.param(
            [says(503)], {}, "the server says 503 .*; given up after 4 tries, nothing of it is kept", 4, [], id="503"
        ),
        pytest.param(
            [sends(WRONG)],
            KNOWN,
            "the SHA-256 is [0-9a-f]{64}, and .* is due; given up after 4",
            4,
            [],
            id="wrong bytes",
        ),
        pytest.param(
            [sends(OTHER)], {"size": SIZE}, "a file of 650,000 bytes, and 700,000 are due", 4, [], id="wrong size"
        ),
        pytest.param(
            [chunked()], {"size": SIZE - 1}, "700,000 bytes came, and 699,999 are due", 4, [], id="more than due"
        ),
        pytest.param(
            [chunked()], {"size": SIZE + 1}, "700,000 bytes came, and 700,001 are due", 4, [], id="less than due"
        ),
        pytest.param([endless], {}, "neither the server nor the table says how long", 1, [], id="no end"),
        pytest.param([unasked], {}, "says 206, and the whole file is due; given up after 4", 4, [], id="a part"),
        pytest.param([says(204)], {}, "says 204, and the whole file is due; given up after 4", 4, [], id="nothing"),
        pytest.param([packed], KNOWN, "sent it packed, as 'gzip', which it was not asked", 4, [], id="packed"),
        pytest.param([silent], {}, "timed out; given up after 4 tries", 4, [], id="silence"),
        pytest.param(
            [sends(cut=CUT), says(500)],
            {},
            "kept: run it again to go on",
            4,
            ["set.zip.part", "set.zip.part.json"],
            id="half",
        ),
        pytest.param(
            [says(302, Location="/a")], {}, "the server says 302 .*infinite loop", 5, [], id="round and round"
        ),
        pytest.param([says(302, Location="ftp://127.0.0.1/a")], {}, "unknown url type: ftp", 4, [], id="moved to ftp"),
        pytest.param(
            [says(302, Location="file:///etc/passwd")], {}, "the server says 302 .*file", 1, [], id="moved to a file"
        ),
    ],
)
def test_what_cannot_be_had_is_one_line(tmp_path, replies, known, message, asked, left):
    with serving(*replies) as server, pytest.raises(UserError, match=message) as caught:
        got(server, tmp_path, timeout=0.2 if silent in replies else 5, **known)
    assert "\n" not in str(caught.value)
    assert server.address in str(caught.value)
    assert names(tmp_path) == left
    assert len(server.asked) == asked


def test_another_run_goes_on_where_the_last_one_ended(tmp_path):
    with serving(sends(cut=CUT), says(404), sends()) as server:
        with pytest.raises(UserError, match="404"):
            got(server, tmp_path)
        assert got(server, tmp_path)
    assert server.ranges == [None, f"bytes={CUT}-", f"bytes={CUT}-"]
    assert (tmp_path / "a" / "set.zip").read_bytes() == CONTENT


def test_a_killed_run_goes_on(tmp_path):
    part = tmp_path / "a" / "set.zip.part"
    with serving(stalls, sends()) as server:
        words = [sys.executable, "-c", FETCH, f"{server.address}/set.zip", str(tmp_path)]
        running = subprocess.Popen(words, env=os.environ | {"no_proxy": "127.0.0.1"})
        end = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < 100_000:
            assert time.monotonic() < end
            time.sleep(0.01)
        running.kill()
        running.wait()
        kept = part.stat().st_size
        assert got(server, tmp_path)
    assert server.ranges == [None, f"bytes={kept}-"]
    assert (tmp_path / "a" / "set.zip").read_bytes() == CONTENT


def test_a_run_killed_before_the_last_step_asks_for_nothing_more(tmp_path):
    with serving(sends(cut=CUT), says(404)) as server:
        with pytest.raises(UserError, match="404"):
            got(server, tmp_path)
        (tmp_path / "a" / "set.zip.part").write_bytes(CONTENT)
        assert got(server, tmp_path, **KNOWN)
    assert len(server.asked) == 2


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"url": "http://127.0.0.1/other", "stamp": "x", "size": null}', None])
def test_a_part_of_unknown_origin_is_thrown_away(tmp_path, note):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "set.zip.part").write_bytes(b"what is this?")
    if note is not None:
        (tmp_path / "a" / "set.zip.part.json").write_bytes(note)
    with serving(sends()) as server:
        assert got(server, tmp_path, **KNOWN)
    assert server.ranges == [None]
    assert names(tmp_path) == ["set.zip"]


@pytest.mark.parametrize(
    ("there", "known", "fetched"),
    [
        pytest.param(CONTENT, {}, False, id="nothing known"),
        pytest.param(CONTENT, {"size": SIZE}, False, id="the size"),
        pytest.param(CONTENT, KNOWN, False, id="both"),
        pytest.param(WRONG, {"size": SIZE}, False, id="the size alone"),
        pytest.param(WRONG, KNOWN, True, id="wrong bytes"),
        pytest.param(OTHER, {"size": SIZE}, True, id="wrong size"),
    ],
)
def test_a_file_that_is_there_is_not_fetched_again(tmp_path, there, known, fetched):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "set.zip").write_bytes(there)
    with serving(sends()) as server:
        assert got(server, tmp_path, **known) == fetched
    assert len(server.asked) == fetched
    assert (tmp_path / "a" / "set.zip").read_bytes() == (CONTENT if fetched else there)


def test_a_file_that_is_there_stays_until_the_right_one_has_come(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "set.zip").write_bytes(OTHER)
    with serving(sends(WRONG)) as server, pytest.raises(UserError, match="SHA-256"):
        got(server, tmp_path, **KNOWN)
    assert (tmp_path / "a" / "set.zip").read_bytes() == OTHER


def test_waits_grow_and_begin_anew_when_something_comes(tmp_path):
    waits = Waits()
    with serving(says(500), says(500), says(500), sends(cut=CUT), says(500), sends()) as server:
        assert got(server, tmp_path, waits)
    assert waits == [1, 2, 4, 1, 2]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("100000", 60), ("soon", 1), ("-5", 1)])
def test_a_server_may_ask_for_a_longer_wait_within_bounds(tmp_path, asked, waited):
    waits = Waits()
    with serving(says(503, Retry_After=asked), sends()) as server:
        assert got(server, tmp_path, waits)
    assert waits == [waited]


@pytest.mark.parametrize("known", [{}, KNOWN], ids=["by the server's word", "by the table's"])
def test_a_full_disk_is_told_before_the_first_byte(tmp_path, known):
    with (
        serving(sends()) as server,
        pytest.raises(UserError, match=r"needs 700,000 bytes below .*, and 699,999 are free"),
    ):
        got(server, tmp_path, free=lambda folder: SIZE - 1, **known)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("most", "room"), [(SIZE - 1, 10**12), (10**12, SIZE - 1)], ids=["at most so much", "no more room than that"]
)
def test_a_file_of_unknown_size_is_bounded(tmp_path, monkeypatch, most, room):
    monkeypatch.setattr(transfer, "MOST", most)
    with (
        serving(chunked()) as server,
        pytest.raises(UserError, match="nobody says how long it is, and it is longer than 699,999 bytes"),
    ):
        got(server, tmp_path, free=lambda folder: room)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_a_file_of_unknown_size_may_take_all_that_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "MOST", SIZE)
    with serving(chunked()) as server:
        assert got(server, tmp_path, free=lambda folder: SIZE)


def test_what_has_come_needs_no_more_room(tmp_path):
    room = iter([SIZE, SIZE - CUT])
    with serving(sends(cut=CUT), sends()) as server:
        assert got(server, tmp_path, free=lambda folder: next(room))


def test_two_runs_do_not_write_into_one_part(tmp_path):
    (tmp_path / "a").mkdir()
    refused = pytest.raises(UserError, match="another run is fetching")
    with FileLock(tmp_path / "a" / ".set.zip.lock"), serving(sends()) as server, refused:
        got(server, tmp_path)


def test_what_the_server_sends_beyond_its_own_length_is_left(tmp_path):
    with serving(sends(announced=9)) as server:
        assert got(server, tmp_path)
    assert (tmp_path / "a" / "set.zip").read_bytes() == CONTENT[:9]


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((os.fstat(number).st_size, names(tmp_path))))
    with serving(sends()) as server:
        got(server, tmp_path)
    assert seen[-1] == (SIZE, [".set.zip.lock", "set.zip.part", "set.zip.part.json"])


def test_progress_is_told_up_to_the_whole(tmp_path):
    told = []
    with serving(sends(cut=CUT), sends()) as server:
        remote = Remote("set.zip", f"{server.address}/set.zip")
        fetch(remote, tmp_path, patience=Waits().patience(), progress=lambda at, size: told.append((at, size)))
    assert told[-1] == (SIZE, SIZE)
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    assert (CUT, SIZE) in told


def test_a_file_without_an_address_says_where_to_put_it(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"put it at {tmp_path}/grefs.json by hand")):
        fetch(Remote("grefs.json", None), tmp_path)


def test_a_root_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "a").write_text("a file")
    with serving(sends()) as server, pytest.raises(UserError, match="cannot write"):
        got(server, tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"path": "../a"}, "below the root", id="up"),
        pytest.param({"path": "/etc/passwd"}, "below the root", id="absolute"),
        pytest.param({"path": ""}, "below the root", id="nothing"),
        pytest.param({"path": "a\\..\\b"}, "below the root", id="backslashes"),
        pytest.param({"url": "ftp://a/b"}, "http:// or https://", id="ftp"),
        pytest.param({"url": "file:///etc/passwd"}, "http:// or https://", id="a file"),
        pytest.param({"size": -1}, "0 bytes or more", id="less than nothing"),
        pytest.param({"sha256": "5D41"}, "64 digits", id="another checksum"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(row, message):
    with pytest.raises(UserError, match=message):
        Remote(**{"path": "a", "url": None, **row})


def test_a_folder_is_no_file(tmp_path):
    assert not is_whole(Remote("a", None), tmp_path)
