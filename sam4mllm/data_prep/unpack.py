"""Zip archives of the internet, unpacked below a folder: plain files alone, and nothing above it.

    downloads/images/train2014.zip             the archive
    downloads/images/train2014.zip.unpacked    its size in bytes, as text: it is unpacked, and may be removed

All names are looked at before anything is written. A file that is there at its full size is passed over, so a run that
was stopped goes on. Knows nothing of where archives come from.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sam4mllm.data_prep.remote import free_space, need_room
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import write_text

SUFFIX = ".zip"
MOST = 200
"""An archive that claims to hold more than this times its own size is refused; JSON packs to a tenth or so."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
_SMALL = 1 << 20  # below this many bytes in all the claim is not looked at


def is_archive(path: Path | str) -> bool:
    """Whether a file is an archive by its name."""
    return str(path).lower().endswith(SUFFIX)


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
        archive: a zip, by its suffix too.
        folder: made if need be.
        free: how many bytes are free on the disk of a folder.
        progress: told how many bytes are unpacked, and of how many.

    Returns:
        How many files it holds.

    Raises:
        UserError: in one line, with nothing written, for a damaged archive, a name that leaves the folder, comes
            twice, is also that of a folder or is the archive's own, a link or a device, or what does not fit on the
            disk; where damage shows later, what came before it is kept.
    """
    if not archive.is_file():
        raise UserError(f"no such file: {archive}")
    if not is_archive(archive):
        raise UserError(f"{archive} is no archive by its name: {SUFFIX} is known")
    with _told(archive), zipfile.ZipFile(archive) as opened:
        members = [info for info in opened.infolist() if not info.is_dir()]
        _check(members, archive, folder)
        missing = [each for each in members if not _is_there(each, folder)]
        need_room(f"{archive.name}, unpacked,", sum(each.file_size for each in missing), folder, free)
        total = sum(each.file_size for each in members)
        done = total - sum(each.file_size for each in missing)
        for each in missing:
            _write(opened, each, folder / each.filename)
            done += each.file_size
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


def _check(members: Sequence[zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    own, home = (archive.resolve(), _mark(archive).resolve()), folder.resolve()
    paths = set[PurePosixPath]()
    for each in members:
        path, named = PurePosixPath(each.filename), f"{archive}: the name {each.filename!r}"
        kind = stat.S_IFMT(each.external_attr >> 16)  # 0 where the archive was not made on Unix
        if kind not in (0, stat.S_IFREG):
            raise UserError(f"{named} is that of a link or a device: an archive may hold plain files alone")
        if each.flag_bits & 1:
            raise UserError(f"{named} is that of an encrypted file")
        if not path.name or path.is_absolute() or ".." in path.parts or "\\" in each.filename:
            raise UserError(f"{named} is not one of a file below the folder")
        if home / path in own:
            raise UserError(f"{named} is that of the archive itself, or of its mark")
        if path in paths:
            raise UserError(f"{named} comes twice")
        paths.add(path)
    both = paths & {parent for path in paths for parent in path.parents}
    if both:
        raise UserError(f"{archive}: the name {str(min(both))!r} is that of a file and of a folder")
    total = sum(each.file_size for each in members)
    if total > max(_SMALL, MOST * archive.stat().st_size):
        raise UserError(f"{archive} claims to hold {total:,} bytes, more than {MOST} times its own size")


def _is_there(member: zipfile.ZipInfo, folder: Path) -> bool:
    target = folder / member.filename
    return target.is_file() and target.stat().st_size == member.file_size


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Under another name first. Not forced onto the disk: that takes longer than all the rest for 80,000 pictures."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with opened.open(member) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
