"""One file over HTTP, whole or not there: continued where a run was stopped, tried again where a server fails, checked.

    downloads/set.zip.part         what has come so far
    downloads/set.zip.part.json    what it is a part of (see `transfer`)

Knows nothing of data sets and of archives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sam4mllm.data_prep.remote import Remote, free_space, is_whole
from sam4mllm.data_prep.transfer import FailedTryError, Transfer
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import one_line, release_lock, take_lock


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is borne with.

    Attributes:
        tries: how many in a row may bring nothing new.
        timeout: seconds for a connection, and for each next byte.
        first: seconds before the second try; each later wait is twice as long.
        longest: seconds of a wait at most.
        sleep: how to wait.
    """

    tries: int = 6
    timeout: float = 60.0
    first: float = 1.0
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep


def fetch(
    remote: Remote,
    root: Path,
    *,
    patience: Patience | None = None,
    free: Callable[[Path], int] = free_space,
    progress: Callable[[int, int | None], None] = lambda *_: None,
) -> bool:
    """Put a file below the root, unless it is there already; a run that was stopped goes on where it was.

    Args:
        remote: what to fetch.
        root: made if need be.
        patience: with the server; the default where None.
        free: how many bytes are free on the disk of a folder.
        progress: told how many bytes are there, and of how many (None where nobody says).

    Returns:
        Whether anything was fetched.

    Raises:
        UserError: in one line, for a file that has no address, that the server refuses or keeps failing to send, whose
            bytes are wrong time after time, that does not fit on the disk, or that another run is fetching.
    """
    target = root / remote.path
    if is_whole(remote, target):
        return False
    if remote.url is None:
        raise UserError(f"{remote.path} has no address to be fetched from: put it at {target} by hand")
    with one_line(target), _open_part(target) as file:
        _persist(Transfer(remote, remote.url, file, _note(target), free, progress), patience or Patience())
        os.fsync(file.fileno())
        _part(target).replace(target)
        _note(target).unlink(missing_ok=True)
    return True


def _persist(transfer: Transfer, patience: Patience) -> None:
    """Try until the file is whole and right, or until too many tries in a row bring nothing new."""
    failed, furthest = 0, transfer.file.tell()
    while True:
        try:
            return transfer.attempt(patience.timeout)
        except FailedTryError as error:
            transfer.file.flush()
            at = transfer.file.tell()
            failed, furthest = (1, at) if at > furthest else (failed + 1, furthest)
            if failed >= patience.tries:
                kept = "what has come is kept: run it again to go on" if at else "nothing of it is kept"
                raise UserError(
                    f"cannot fetch {transfer.url}: {error}; given up after {failed} tries, {kept}"
                ) from error
            wait = max(patience.first * 2 ** (failed - 1), error.wait)
        patience.sleep(min(wait, patience.longest))


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


@contextmanager
def _open_part(target: Path) -> Iterator[BinaryIO]:
    """The part, at its end, held against other runs; removed with its note where nothing of it is left."""
    part = _part(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = take_lock(target.with_name(f".{target.name}.lock"), f"another run is fetching {target}")
    try:
        with part.open("ab") as file:
            try:
                yield file
            finally:
                if not file.tell():
                    part.unlink(missing_ok=True)
                    _note(target).unlink(missing_ok=True)
    finally:
        release_lock(lock)
