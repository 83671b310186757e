"""Files that are whole or not there: written under another name in the same folder, then renamed over the old one; and
folders that one run at a time writes into.

Knows nothing of what is written. Files that grow line by line are not its business (see `sam4mllm.prediction.record`).

    >>> with atomic_path(Path("out/mask.png")) as temporary:
    ...     picture.save(temporary, format="PNG")
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
    """A path to write to; it becomes ``path`` when the block ends well, and is removed when it does not.

    The folder is made if need be. The temporary name keeps the suffix, for writers that choose the format by it.

    Raises:
        UserError: where the system refuses: a full disk, an unwritable folder, a folder of that name.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Make ``path`` hold exactly ``data``, or leave it as it was.

    Raises:
        UserError: as `atomic_path` does.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Make ``path`` hold ``text`` as UTF-8 with plain line ends, or leave it as it was.

    Raises:
        UserError: as `atomic_path` does.
    """
    write_bytes(path, text.encode())


def check_folder(folder: Path) -> None:
    """Make sure that files can be written into a folder, which need not be there yet; leaves nothing behind.

    Raises:
        UserError: where they cannot.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from error


def check_file(file: Path, read: Sequence[Path] = ()) -> None:
    """Make sure that a file can be written, which need not be there yet; leaves nothing behind.

    Args:
        file: to be written.
        read: what it is made of, and may not replace, nor stand where that would be looked for.

    Raises:
        UserError: where it cannot.
    """
    if any(_same(file, one) for one in read):
        raise UserError(f"cannot write {file}: it is what is read; give another file")
    if file.exists() and not file.is_file():
        raise UserError(f"cannot write {file}: it is a folder or a device, not a file")
    if file.exists() and not os.access(file, os.W_OK):
        raise UserError(f"cannot write {file}: it may not be written")
    check_folder(file.parent)


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file, be it there or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The block with a folder to itself among those that ask so; it is made if need be, and not left behind empty.

    The system takes the lock from a run that was killed.

    Raises:
        UserError: where another run has it, or where it cannot be had.
    """
    new = not folder.exists()
    with one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder / LOCK, f"another run is writing {folder}: wait for it, or give another folder")
    try:
        yield
    finally:
        release_lock(lock)
        if new and folder.exists() and not any(folder.iterdir()):
            with suppress(OSError):  # another run may be putting its lock there
                folder.rmdir()


def take_lock(path: Path, refusal: str) -> BaseFileLock:
    """A lock file, held by this process until `release_lock` or its end.

    Raises:
        UserError: ``refusal``, where another run holds it; where the file cannot be made.
    """
    lock = FileLock(path)
    with one_line(path):
        try:
            lock.acquire(timeout=0.2, poll_interval=0.05)  # another run may be removing the file just now
        except Timeout:
            raise UserError(refusal) from None
    return lock


def release_lock(lock: BaseFileLock) -> None:
    """Let another run take the lock, and remove its file.

    The file goes first: a run that opened it meanwhile sees that it is gone, and does not take it for the lock.
    """
    with suppress(OSError):  # Windows removes no open file; there the release does
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turns what the system says against writing ``path`` into a one-line `UserError`.

    Raises:
        UserError: for any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync_file(path: Path) -> None:
    """Flush a file to the disk before it is renamed: else a power cut can leave an empty file under the new name."""
    with path.open("r+b") as file:  # Windows syncs no file that is open for reading only
        os.fsync(file.fileno())
