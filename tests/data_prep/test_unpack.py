import stat
import zipfile
from types import SimpleNamespace

import pytest

from sam4mllm.data_prep import unpack as unpacking
from sam4mllm.data_prep.unpack import MAX_RATIO, is_unpacked, unpack
from sam4mllm.errors import UserError
from tests.data_prep.errors import one_line_error

FILES = {"train2014/a.jpg": b"a" * 5000, "train2014/b.jpg": b"b" * 3000, "read me.txt": b"", "x/y/z/é.json": b"{}"}


def pack(folder, files=None, mode=stat.S_IFREG | 0o644):
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (FILES if files is None else files).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def read_files(folder):
    """All files below a folder, without the archive and its mark."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("set.zip")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_all_files_are_unpacked(tmp_path):
    path, steps = pack(tmp_path), []
    assert not is_unpacked(path)
    assert unpack(path, lambda done, total: steps.append((done, total))) == len(FILES)
    assert read_files(tmp_path) == FILES
    assert steps[-1] == (8002, 8002)
    assert is_unpacked(path)


def test_unpacking_again_repairs_missing_and_cut_files_and_touches_no_others(tmp_path):
    path = pack(tmp_path)
    unpack(path)
    inode = (tmp_path / "train2014" / "a.jpg").stat().st_ino
    (tmp_path / "train2014" / "b.jpg").write_bytes(b"b")
    (tmp_path / "x" / "y" / "z" / "é.json").unlink()
    (tmp_path / "mine.txt").write_text("mine")
    unpack(path)
    assert read_files(tmp_path) == FILES | {"mine.txt": b"mine"}
    assert (tmp_path / "train2014" / "a.jpg").stat().st_ino == inode


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "read me.txt").symlink_to("mine.txt")
    unpack(pack(tmp_path))
    assert read_files(tmp_path) == FILES | {"mine.txt": b"mine"}


def test_the_archive_may_be_removed_and_an_archive_of_another_size_is_unpacked_again(tmp_path):
    path = pack(tmp_path)
    unpack(path)
    path.unlink()
    assert is_unpacked(path)
    pack(tmp_path, {"one": b"1"})
    assert not is_unpacked(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("../up.txt", "is outside the folder", id="up"),
        pytest.param("a/../../up.txt", "is outside the folder", id="up in the middle"),
        pytest.param("/tmp/up.txt", "is outside the folder", id="absolute"),
        pytest.param("..\\up.txt", "is outside the folder", id="backslashes"),
        pytest.param("./good.txt", "occurs twice", id="twice"),
        pytest.param("./set.zip", "would overwrite the archive", id="the archive itself"),
        pytest.param("set.zip.unpacked", "would overwrite the archive or its mark", id="its mark"),
    ],
)
def test_one_bad_name_refuses_the_archive(tmp_path, name, message):
    path = pack(tmp_path, {"good.txt": b"good", name: b"evil"})
    with one_line_error(message) as caught:
        unpack(path)
    assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["set.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, kind):
    with pytest.raises(UserError, match=r"set\.zip: 'x' is a link or a device"):
        unpack(pack(tmp_path, {"x": b"/etc/passwd"}, kind | 0o644))
    assert read_files(tmp_path) == {}


def test_a_zip_bomb_is_refused(tmp_path):
    path = pack(tmp_path, {f"{index}": bytes(30_000_000) for index in range(2)})
    assert MAX_RATIO * path.stat().st_size < 60_000_000
    with pytest.raises(UserError, match="claims to unpack to 60,000,000 bytes"):
        unpack(path)
    assert read_files(tmp_path) == {}


def test_a_wrong_size_in_the_archive_is_damage(tmp_path):
    path = pack(tmp_path, {"a": bytes(50_000)})
    path.write_bytes(path.read_bytes().replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged"):
        unpack(path)
    assert read_files(tmp_path) == {}


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "encrypted"])
def test_damage_is_one_line(tmp_path, damage):
    path = pack(tmp_path)
    data = path.read_bytes()
    entry = data.index(b"PK\x01\x02")
    encrypted = data[: entry + 8] + b"\x01" + data[entry + 9 :]  # the flag in the directory
    damaged = {"cut": data[: len(data) // 2], "text": b"<html>404</html>" * 99, "empty": b"", "encrypted": encrypted}
    path.write_bytes(damaged[damage])
    with one_line_error("damaged or encrypted: remove it and download it again"):
        unpack(path)
    assert not is_unpacked(path)
    assert read_files(tmp_path) == {}


def test_files_before_a_damaged_one_are_kept(tmp_path):
    path = pack(tmp_path, {"a": b"first", "b": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x03\x04", 4)
    data[second + 60 : second + 80] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        unpack(path)
    assert read_files(tmp_path) == {"a": b"first"}


def test_free_space_is_checked_before_the_first_file_and_only_missing_files_need_it(tmp_path, monkeypatch):
    path, free = pack(tmp_path), [8001]
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    with pytest.raises(UserError, match=r"needs 8,002 bytes below .*, but only 8,001 are free"):
        unpack(path)
    assert read_files(tmp_path) == {}
    free[0] = 8002
    unpack(path)
    free[0] = 0
    assert unpack(path) == len(FILES)


@pytest.mark.parametrize("files", [{"a": b"1", "a/b": b"2"}, {"a/b": b"2", "a": b"1"}])
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path, files):
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(pack(tmp_path, files))


def test_a_missing_archive_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot unpack .*set\.zip: No such file"):
        unpack(tmp_path / "set.zip")
