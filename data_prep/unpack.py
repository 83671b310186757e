"""Zip and tar archives of the internet, unpacked below a folder: plain files alone, and nothing above it.

    downloads/images/train2014.zip             the archive
    downloads/images/train2014.zip.unpacked    its size in bytes, as text: it is unpacked, and may be removed

All names are looked at before anything is written. A file that is there at its full size is passed over, so a run that
was stopped goes on. Knows nothing of where archives come from.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from data_prep.remote import free_space, need_room
from sam4mllm.atomic import write_text
from sam4mllm.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST = 200
"""An archive that claims to hold more than this times its own size is refused; JSON packs to a tenth or so."""

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)
_SMALL = 1 << 20  # below this many bytes in all the claim is not looked at


@dataclass(frozen=True, slots=True)
class _Member:
    """A plain file of an archive: its name, its size, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


Members: TypeAlias = list[_Member]


def is_archive(path: Path | str) -> bool:
    """Whether a file is an archive by its name."""
    return str(path).lower().endswith(SUFFIXES)


def is_unpacked(archive: Path) -> bool:
    """Whether an archive was unpacked to its end; it need not be there any more, but if it is, it is the same one."""
    mark = _mark(archive)
    return mark.is_file() and (not archive.exists() or mark.read_text() == f"{archive.stat().st_size}\n")


def unpack(
    archive: Path,
    folder: Path,
    *,
    free: Callable[[Path], int] = free_space,
    progress: Callable[[int, int | None], None] = lambda *_: None,
) -> int:
    """Write the files of an archive below a folder.

    Args:
        archive: zip or tar, by its suffix.
        folder: made if need be.
        free: how many bytes are free on the disk of a folder.
        progress: told how many bytes are unpacked, and of how many.

    Returns:
        How many files it holds.

    Raises:
        UserError: in one line, with nothing written, for a damaged archive, a name that leaves the folder, comes
            twice or is the archive's own, a link or a device, or what does not fit on the disk; where damage shows
            later, what came before it is kept.
    """
    with _told(archive), _opened(archive) as members:
        _check(members, archive, folder)
        missing = [each for each in members if not _is_there(each, folder)]
        need_room(f"{archive.name}, unpacked,", sum(each.size for each in missing), folder, free)
        total = sum(each.size for each in members)
        done = total - sum(each.size for each in missing)
        for each in missing:
            _write(each, folder / each.name)
            done += each.size
            progress(done, total)
        write_text(_mark(archive), f"{archive.stat().st_size}\n")
        return len(members)


def _mark(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.unpacked")


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """What is wrong with an archive, in one line that names it."""
    try:
        yield
    except _DAMAGE as error:
        raise UserError(f"{archive} is damaged or no archive, remove it and get it again: {_line(error)}") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _opened(archive: Path) -> Iterator[Members]:
    if not archive.is_file():
        raise UserError(f"no such file: {archive}")
    if not is_archive(archive):
        raise UserError(f"{archive} is no archive by its name: {', '.join(SUFFIXES)} are known")
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield [_zipped(opened, info) for info in opened.infolist() if not info.is_dir()]
    else:
        with tarfile.open(archive) as tar:
            yield [_tarred(tar, info) for info in tar if not info.isdir()]


def _zipped(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    if kind not in (0, stat.S_IFREG):
        raise UserError(f"{info.filename!r} is a link or a device: an archive may hold plain files alone")
    if info.flag_bits & 1:
        raise UserError(f"{info.filename!r} is encrypted")
    return _Member(info.filename, info.file_size, lambda: opened.open(info))


def _tarred(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def opened() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None  # it is a plain file
        return file

    if not info.isreg():
        raise UserError(f"{info.name!r} is a link or a device: an archive may hold plain files alone")
    return _Member(info.name, info.size, opened)


def _check(members: Members, archive: Path, folder: Path) -> None:
    own, home = (archive.resolve(), _mark(archive).resolve()), folder.resolve()
    seen: set[PurePosixPath] = set()
    for each in members:
        path = PurePosixPath(each.name)
        if not path.name or path.is_absolute() or ".." in path.parts or {"\\", "\0"} & {*each.name}:
            raise UserError(f"{archive}: the name {each.name!r} is not one of a file below the folder")
        if home / path in own:
            raise UserError(f"{archive}: the name {each.name!r} is that of the archive itself, or of its mark")
        if path in seen:
            raise UserError(f"{archive}: the name {each.name!r} comes twice")
        seen.add(path)
    total = sum(each.size for each in members)
    if total > max(_SMALL, MOST * archive.stat().st_size):
        raise UserError(f"{archive} claims to hold {total:,} bytes, more than {MOST} times its own size")


def _is_there(member: _Member, folder: Path) -> bool:
    target = folder / member.name
    return target.is_file() and target.stat().st_size == member.size


def _write(member: _Member, target: Path) -> None:
    """Under another name first. Not forced onto the disk: that takes longer than all the rest for 80,000 pictures."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with closing(member.open()) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
