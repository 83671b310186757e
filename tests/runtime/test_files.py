import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import atomic_path, check_file, check_folder, lock_folder, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there_and_nothing_beside_it(tmp_path):
    write_text(tmp_path / "new" / "a.json", "één\n")
    assert (tmp_path / "new" / "a.json").read_bytes() == "één\n".encode()
    assert names(tmp_path / "new") == ["a.json"]


def test_the_temporary_name_keeps_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "mask.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt], ids=["failure", "the user stops it"])
def test_a_broken_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_bytes(tmp_path / "a", b"old")

    def write_half():
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_bytes(b"ha")
            raise error

    with pytest.raises(error):
        write_half()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_real_full_disk_is_one_line(tmp_path):
    def fill():
        with atomic_path(tmp_path / "a") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x")

    with pytest.raises(UserError, match=r"cannot write .*/a: No space left on device") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_disk_that_fills_late_leaves_nothing(tmp_path, monkeypatch, where):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), full)
    with pytest.raises(UserError, match="No space left on device"):
        write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == []


def test_a_file_where_a_folder_must_be_is_one_line(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write .*taken/a: "):
        write_bytes(tmp_path / "taken" / "a", b"x")


def test_a_folder_of_that_name_is_one_line(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        write_bytes(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write_bytes(tmp_path / "a", b"x")


def test_checking_leaves_nothing_behind(tmp_path):
    check_folder(tmp_path / "new" / "deeper")
    check_file(tmp_path / "a")
    assert names(tmp_path) == []


def test_checking_names_what_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write into .*taken"):
        check_folder(tmp_path / "taken" / "below")
    with pytest.raises(UserError, match="it is a folder"):
        check_file(tmp_path)


@pytest.mark.parametrize("name", ["read", "sub/../read", "hard", "soft", "absent", "sub/../absent", "dangling"])
def test_what_is_read_is_not_written_by_any_name_nor_where_it_would_be_looked_for(tmp_path, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "read").write_bytes(b"x")
    (tmp_path / "hard").hardlink_to(tmp_path / "read")
    (tmp_path / "soft").symlink_to("read")
    (tmp_path / "dangling").symlink_to("absent")
    check_file(tmp_path / "other", read=[tmp_path / "read", tmp_path / "absent"])
    with pytest.raises(UserError, match="it is an input file"):
        check_file(tmp_path / name, read=[tmp_path / "read", tmp_path / "absent"])


def test_a_device_is_no_file_to_write():
    with pytest.raises(UserError, match="not a file"):
        check_file(Path("/dev/full"))


def test_a_folder_is_one_runs_at_a_time_and_is_not_left_behind_empty(tmp_path):
    with lock_folder(tmp_path / "new" / "out"):
        with (
            pytest.raises(UserError, match=r"another run is writing .*out: wait for it"),
            lock_folder(tmp_path / "new/out"),
        ):
            pass
        assert (tmp_path / "new" / "out").is_dir()
    assert not (tmp_path / "new" / "out").exists()
    with lock_folder(tmp_path / "new" / "out"):
        write_text(tmp_path / "new" / "out" / "a", "a")
    assert names(tmp_path / "new" / "out") == ["a"]


def test_a_folder_that_was_there_stays_and_a_killed_runs_lock_is_taken(tmp_path):
    (tmp_path / ".sam4mllm.lock").touch()
    with lock_folder(tmp_path):
        pass
    assert names(tmp_path) == []


HOLD = """
import os, sys
from pathlib import Path
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import lock_folder

folder, turns = Path(sys.argv[1]), 0
while turns < 40:
    try:
        with lock_folder(folder):
            os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))  # fails while another run is within
            os.unlink(folder / "held")
            turns += 1
    except UserError:
        pass
"""


def test_runs_that_come_and_go_are_never_within_a_folder_together(tmp_path):
    """Each removes the lock as it leaves, while others open it."""
    runs = [subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")]) for _ in range(4)]
    assert [run.wait(timeout=60) for run in runs] == [0] * 4
    assert not (tmp_path / "out" / ".sam4mllm.lock").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"), lock_folder(tmp_path / "file"):
        pass
