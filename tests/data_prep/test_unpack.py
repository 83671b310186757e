import stat
import zipfile

import pytest

from sam4mllm.data_prep.unpack import MOST, is_unpacked, unpack
from sam4mllm.errors import UserError

FILES = {"train2014/a.jpg": b"a" * 5000, "train2014/b.jpg": b"b" * 3000, "read me.txt": b"", "x/y/z/é.json": b"{}"}


def archive(folder, files=None, mode=stat.S_IFREG | 0o644):
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in (FILES if files is None else files).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            packed.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def found(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_come_out(tmp_path):
    path, told = archive(tmp_path), []
    assert not is_unpacked(path)
    assert unpack(path, tmp_path / "out", progress=lambda at, size: told.append((at, size))) == len(FILES)
    assert found(tmp_path / "out") == FILES
    assert told[-1] == (8002, 8002)
    assert is_unpacked(path)


def test_unpacking_again_mends_what_is_missing_or_cut_short_and_nothing_else(tmp_path):
    path, out = archive(tmp_path), tmp_path / "out"
    unpack(path, out)
    kept = (out / "train2014" / "a.jpg").stat()
    (out / "train2014" / "b.jpg").write_bytes(b"b")
    (out / "x" / "y" / "z" / "é.json").unlink()
    (out / "mine.txt").write_text("mine")
    unpack(path, out)
    assert found(out) == FILES | {"mine.txt": b"mine"}
    assert (out / "train2014" / "a.jpg").stat().st_ino == kept.st_ino


def test_an_unpacked_archive_may_be_removed_and_another_is_unpacked_anew(tmp_path):
    path = archive(tmp_path)
    unpack(path, tmp_path / "out")
    path.unlink()
    assert is_unpacked(path)
    archive(tmp_path, {"one": b"1"})
    assert not is_unpacked(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("../up.txt", "is not one of a file below", id="up"),
        pytest.param("a/../../up.txt", "is not one of a file below", id="up by a way round"),
        pytest.param("/tmp/up.txt", "is not one of a file below", id="absolute"),
        pytest.param("..\\up.txt", "is not one of a file below", id="backslashes"),
        pytest.param("./good.txt", "comes twice", id="twice"),
        pytest.param("good.txt/a/b", "the name 'good.txt' is that of a file and of a folder", id="a file as a folder"),
        pytest.param("set.zip", "is that of the archive itself, or of its mark", id="its own"),
        pytest.param("./set.zip", "is that of the archive itself, or of its mark", id="its own by a way round"),
        pytest.param("set.zip.unpacked", "is that of the archive itself, or of its mark", id="its mark's"),
    ],
)
def test_a_name_that_cannot_be_spoils_the_archive(tmp_path, name, message):
    path = archive(tmp_path, {"good.txt": b"good", name: b"evil"})
    with pytest.raises(UserError, match=message) as caught:
        unpack(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert found(tmp_path) == {path.name: path.read_bytes()}
    assert not is_unpacked(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = archive(tmp_path, {"x": b"/etc/passwd"}, kind | 0o644)
    with pytest.raises(UserError, match=r"set\.zip: the name 'x' is that of a link or a device"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_its_claim(tmp_path):
    path = archive(tmp_path, {f"{index}": bytes(30_000_000) for index in range(2)})
    assert MOST * path.stat().st_size < 60_000_000
    with pytest.raises(UserError, match="claims to hold 60,000,000 bytes"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lie_about_a_size_is_found_out(tmp_path):
    path = archive(tmp_path, {"a": bytes(50_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == {}


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damage_is_one_line(tmp_path, damage):
    path = archive(tmp_path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"<html>404</html>" * 99, "empty": b""}[damage])
    with pytest.raises(UserError, match="damaged or no archive") as caught:
        unpack(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not is_unpacked(path)


def test_flipped_bytes_are_found_and_what_came_before_is_kept(tmp_path):
    noise = bytes(range(256)) * 40
    path = archive(tmp_path, {"a": b"first", "b": noise})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x03\x04", 4)
    data[second + 60 : second + 80] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == {"a": b"first"}


def test_an_encrypted_archive_is_refused(tmp_path):
    path = archive(tmp_path, {"a": b"secret"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"set\.zip: the name 'a' is that of an encrypted file"):
        unpack(path, tmp_path / "out")


def test_a_full_disk_is_told_before_the_first_file_and_what_is_there_needs_no_room(tmp_path):
    path = archive(tmp_path)
    with pytest.raises(UserError, match=r"needs 8,002 bytes below .*, and 8,001 are free"):
        unpack(path, tmp_path / "out", free=lambda folder: 8001)
    assert not (tmp_path / "out").exists()
    unpack(path, tmp_path / "out")
    assert unpack(path, tmp_path / "out", free=lambda folder: 0) == len(FILES)


@pytest.mark.parametrize(("name", "message"), [("set.tar", "is no archive by its name"), ("set.zip", "no such file")])
def test_what_is_no_archive_is_refused(tmp_path, name, message):
    if name == "set.tar":
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        unpack(tmp_path / name, tmp_path / "out")


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train2014").write_text("a file")
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(archive(tmp_path), tmp_path / "out")
