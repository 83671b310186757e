import io
import stat
import tarfile
import zipfile

import pytest

from data_prep.unpack import MOST, is_unpacked, unpack
from sam4mllm.errors import UserError

FILES = {"train2014/a.jpg": b"a" * 5000, "train2014/b.jpg": b"b" * 3000, "read me.txt": b"", "x/y/z/é.json": b"{}"}
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


def zipped(path, files, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path, files, form=tarfile.REGTYPE, link=""):
    kind = path.suffix.removeprefix(".").replace("tgz", "gz").replace("tar", "")
    with tarfile.open(path, f"w:{kind}") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data) if form == tarfile.REGTYPE else 0, form, link
            archive.addfile(info, io.BytesIO(data))
    return path


def archive(folder, kind, files=None, **how):
    path = folder / f"set.{kind}"
    return (zipped if kind == "zip" else tarred)(path, FILES if files is None else files, **how)


def found(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_all_files_come_out(tmp_path, kind):
    path, told = archive(tmp_path, kind), []
    assert not is_unpacked(path)
    assert unpack(path, tmp_path / "out", progress=lambda at, size: told.append((at, size))) == len(FILES)
    assert found(tmp_path / "out") == FILES
    assert told[-1] == (8002, 8002)
    assert is_unpacked(path)


@pytest.mark.parametrize("kind", KINDS)
def test_unpacking_again_mends_what_is_missing_or_cut_short_and_nothing_else(tmp_path, kind):
    path, out = archive(tmp_path, kind), tmp_path / "out"
    unpack(path, out)
    kept = (out / "train2014" / "a.jpg").stat()
    (out / "train2014" / "b.jpg").write_bytes(b"b")
    (out / "x" / "y" / "z" / "é.json").unlink()
    (out / "mine.txt").write_text("mine")
    unpack(path, out)
    assert found(out) == FILES | {"mine.txt": b"mine"}
    assert (out / "train2014" / "a.jpg").stat().st_ino == kept.st_ino


def test_an_unpacked_archive_may_be_removed_and_another_is_unpacked_anew(tmp_path):
    path = archive(tmp_path, "zip")
    unpack(path, tmp_path / "out")
    path.unlink()
    assert is_unpacked(path)
    archive(tmp_path, "zip", {"one": b"1"})
    assert not is_unpacked(path)


EVIL = [
    pytest.param("../up.txt", "not one of a file below", id="up"),
    pytest.param("a/../../up.txt", "not one of a file below", id="up by a way round"),
    pytest.param("/tmp/up.txt", "not one of a file below", id="absolute"),
    pytest.param("..\\up.txt", "not one of a file below", id="backslashes"),
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(("name", "message"), EVIL)
def test_a_name_that_leaves_the_folder_spoils_the_archive(tmp_path, kind, name, message):
    path = archive(tmp_path, kind, {"good.txt": b"good", name: b"evil"})
    with pytest.raises(UserError, match=message) as caught:
        unpack(path, tmp_path / "a" / "out")
    assert "\n" not in str(caught.value)
    assert found(tmp_path) == {path.name: path.read_bytes()}
    assert not is_unpacked(path)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("zip", {"mode": stat.S_IFLNK | 0o777}, id="a link in a zip"),
        pytest.param("zip", {"mode": stat.S_IFIFO | 0o644}, id="a pipe in a zip"),
        pytest.param("tar", {"form": tarfile.SYMTYPE, "link": "/etc/passwd"}, id="a link"),
        pytest.param("tar", {"form": tarfile.LNKTYPE, "link": "../../etc/passwd"}, id="a hard link"),
        pytest.param("tar", {"form": tarfile.CHRTYPE}, id="a device"),
        pytest.param("tar", {"form": tarfile.BLKTYPE}, id="a disk"),
        pytest.param("tar", {"form": tarfile.FIFOTYPE}, id="a pipe"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind, how):
    path = archive(tmp_path, kind, {"x": b"/etc/passwd"}, **how)
    with pytest.raises(UserError, match="'x' is a link or a device"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_with_a_zero_is_refused(tmp_path):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as packed:
        info = tarfile.TarInfo("x")
        info.size, info.pax_headers = 1, {"path": "a\0b"}
        packed.addfile(info, io.BytesIO(b"1"))
    with pytest.raises(UserError, match=r"the name 'a\\x00b' is not one of a file"):
        unpack(path, tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["set.{}", "./set.{}", "set.{}.unpacked"])
def test_an_archive_cannot_write_over_itself(tmp_path, kind, name):
    path = archive(tmp_path, kind, {name.format(kind): b"other", "b": b"2"})
    before = path.read_bytes()
    with pytest.raises(UserError, match="is that of the archive itself, or of its mark"):
        unpack(path, tmp_path)
    assert found(tmp_path) == {path.name: before}


def test_a_name_that_comes_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in ("a", "./a"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match="comes twice"):
        unpack(tmp_path / "set.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_its_claim(tmp_path, kind):
    path = archive(tmp_path, kind, {f"{index}": bytes(30_000_000) for index in range(2)})
    assert MOST * path.stat().st_size < 60_000_000
    with pytest.raises(UserError, match="claims to hold 60,000,000 bytes"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lie_about_a_size_is_found_out(tmp_path):
    path = archive(tmp_path, "zip", {"a": bytes(50_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damage_is_one_line(tmp_path, kind, damage):
    path = archive(tmp_path, kind)
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[: 600 if kind == "tar" else len(data) // 2], "text": b"<html>404</html>" * 99, "empty": b""}[
            damage
        ]
    )
    with pytest.raises(UserError, match="damaged or no archive") as caught:
        unpack(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not is_unpacked(path)


def test_flipped_bytes_are_found_and_what_came_before_is_kept(tmp_path):
    noise = bytes(range(256)) * 40
    path = archive(tmp_path, "zip", {"a": b"first", "b": noise})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x03\x04", 4)
    data[second + 60 : second + 80] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert found(tmp_path / "out") == {"a": b"first"}


def test_an_encrypted_archive_is_refused(tmp_path):
    path = archive(tmp_path, "zip", {"a": b"secret"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(data)
    with pytest.raises(UserError, match="'a' is encrypted"):
        unpack(path, tmp_path / "out")


def test_a_full_disk_is_told_before_the_first_file_and_what_is_there_needs_no_room(tmp_path):
    path = archive(tmp_path, "zip")
    with pytest.raises(UserError, match=r"needs 8,002 bytes below .*, and 8,001 are free"):
        unpack(path, tmp_path / "out", free=lambda folder: 8001)
    assert not (tmp_path / "out").exists()
    unpack(path, tmp_path / "out")
    assert unpack(path, tmp_path / "out", free=lambda folder: 0) == len(FILES)


@pytest.mark.parametrize(("name", "message"), [("set.rar", "is no archive by its name"), ("set.zip", "no such file")])
def test_what_is_no_archive_is_refused(tmp_path, name, message):
    if name == "set.rar":
        (tmp_path / name).write_bytes(b"Rar!")
    with pytest.raises(UserError, match=message):
        unpack(tmp_path / name, tmp_path / "out")


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train2014").write_text("a file")
    with pytest.raises(UserError, match="cannot unpack"):
        unpack(archive(tmp_path, "zip"), tmp_path / "out")
