"""Unpack a zip archive into its own folder: regular files only, none outside the folder.

    downloads/images/train2014.zip             the archive
    downloads/images/train2014.zip.unpacked    written last: all files are there; holds the archive's size in bytes

All members are checked before the first file is written. A file of the right size is skipped, so unpacking resumes.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import write_text

MAX_RATIO = 200  # unpacked size over archive size, against zip bombs; JSON compresses to about a tenth
_SMALL = 1 << 20  # archives that unpack to fewer bytes are not zip bombs, whatever the ratio
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)  # RuntimeError: encrypted


def check_free_space(name: str, size: int, folder: Path) -> None:
    """Raise a `UserError` if ``size`` bytes do not fit on the disk of a folder, which need not exist yet."""
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if size > free:
        raise UserError(f"{name} needs {size:,} bytes below {folder}, but only {free:,} are free")


def is_unpacked(archive: Path) -> bool:
    """Whether an archive was unpacked completely, even if it was removed since. Another size means a new archive."""
    mark = _mark_path(archive)
    return mark.is_file() and (not archive.exists() or mark.read_text() == f"{archive.stat().st_size}\n")


def unpack(archive: Path, progress: Callable[[int, int | None], None] = lambda *_: None) -> int:
    """Unpack a zip archive next to itself. Other files in the folder are not changed.

    Args:
        archive: the zip.
        progress: called with the unpacked bytes so far and in total.

    Returns:
        Number of files in the archive.

    Raises:
        UserError: if a member is not allowed, the archive is damaged or encrypted, or its files do not fit on the disk.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(members, archive)
            missing = [member for member in members if not _is_extracted(member, archive.parent)]
            total = sum(member.file_size for member in members)
            done = total - sum(member.file_size for member in missing)
            check_free_space(f"{archive.name}, unpacked,", total - done, archive.parent)
            for member in missing:
                _extract(opened, member, archive.parent)
                done += member.file_size
                progress(done, total)
        write_text(_mark_path(archive), f"{archive.stat().st_size}\n")
    except _DAMAGE as error:
        raise UserError(f"{archive} is damaged or encrypted: remove it and download it again ({error!r})") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}") from error
    return len(members)


def _mark_path(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.unpacked")


def _check_members(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    paths = {PurePosixPath(archive.name), PurePosixPath(_mark_path(archive).name)}
    for member in members:
        path = PurePosixPath(member.filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):  # 0: not packed on Unix
            raise UserError(f"{archive}: {member.filename!r} is a link or a device, not a regular file")
        if not path.name or path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise UserError(f"{archive}: {member.filename!r} is outside the folder")
        if path in paths:
            raise UserError(f"{archive}: {member.filename!r} occurs twice, or would overwrite the archive or its mark")
        paths.add(path)
    total = sum(member.file_size for member in members)
    if total > max(_SMALL, MAX_RATIO * archive.stat().st_size):
        raise UserError(f"{archive} claims to unpack to {total:,} bytes, more than {MAX_RATIO} times its size")


def _is_extracted(member: zipfile.ZipInfo, folder: Path) -> bool:
    target = folder / member.filename
    return target.is_file() and target.stat().st_size == member.file_size


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / member.filename
    target.unlink(missing_ok=True)  # otherwise a link in its place would be followed
    try:
        opened.extract(member, folder)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
