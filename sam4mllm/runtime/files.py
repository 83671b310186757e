"""Atomic file writes, checks that a path is writable, and locks for output folders.

A file is written under a temporary name in the same folder and then renamed, so that a killed run leaves either the old
file or the complete new one. For files that grow line by line see `sam4mllm.prediction.record`.

    >>> with atomic_path(Path("out/mask.png")) as temporary:
    ...     image.save(temporary, format="PNG")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from sam4mllm.errors import UserError

LOCK = ".sam4mllm.lock"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it is renamed to ``path`` after the block, or removed if the block raises.

    A missing folder is created. The temporary name keeps the suffix, for writers that choose the format by it.

    Raises:
        UserError: if the file cannot be written: a full disk, an unwritable folder, a folder of that name.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with os_errors_as_user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically.

    Raises:
        UserError: as in `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8 with unchanged line ends.

    Raises:
        UserError: as in `atomic_path`.
    """
    write_bytes(path, text.encode())


def check_folder(folder: Path) -> None:
    """Check that a folder, which need not exist yet, can be written to. Creates nothing.

    Raises:
        UserError: if they cannot.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from error


def check_file(file: Path, read: Sequence[Path] = ()) -> None:
    """Check that a file, which need not exist yet, can be written. Creates nothing.

    Args:
        file: the output file.
        read: the input files, which the output must not replace; they may be missing.

    Raises:
        UserError: if it cannot be written.
    """
    if any(_is_same_file(file, source) for source in read):
        raise UserError(f"cannot write {file}: it is an input file; choose another output file")
    if file.exists() and not file.is_file():
        raise UserError(f"cannot write {file}: it is a folder or a device, not a file")
    if file.exists() and not os.access(file, os.W_OK):
        raise UserError(f"cannot write {file}: permission denied")
    check_folder(file.parent)


def _is_same_file(first: Path, second: Path) -> bool:
    """Whether two paths name the same file, which need not exist."""
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    return first.exists() and second.exists() and first.samefile(second)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for the block. A missing folder is created, and removed afterwards if it is empty.

    The operating system releases the lock of a killed run.

    Raises:
        UserError: if another run holds the lock, or the folder cannot be written.
    """
    new = not folder.exists()
    with os_errors_as_user_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder / LOCK, f"another run is writing {folder}: wait for it, or choose another folder")
    try:
        yield
    finally:
        release_lock(lock)
        if new and folder.exists() and not any(folder.iterdir()):
            with suppress(OSError):  # another run may be creating its lock in it
                folder.rmdir()


def take_lock(path: Path, refusal: str) -> BaseFileLock:
    """Lock a file until `release_lock` or the end of this process.

    Raises:
        UserError: ``refusal`` if another run holds the lock; also if the file cannot be created.
    """
    lock = FileLock(path)
    with os_errors_as_user_errors(path):
        try:
            lock.acquire(timeout=0.2, poll_interval=0.05)  # another run may be removing the file just now
        except Timeout:
            raise UserError(refusal) from None
    return lock


def release_lock(lock: BaseFileLock) -> None:
    """Release a lock and remove its file.

    The file is removed first, so that a run that has just opened it notices this and creates a new one.
    """
    with suppress(OSError):  # Windows cannot remove an open file; there, releasing the lock removes it
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextmanager
def os_errors_as_user_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a one-line `UserError` about writing ``path``.

    Raises:
        UserError: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync_file(path: Path) -> None:
    """Flush a file to the disk; without this, a power cut after a rename can leave an empty file."""
    with path.open("r+b") as file:  # Windows cannot sync a file that is open for reading only
        os.fsync(file.fileno())
