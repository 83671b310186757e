"""A file of the internet: where it comes from, where it goes, and whether it is there. Knows nothing of data sets.

>>> Remote("train2014.zip", "http://images.cocodataset.org/zips/train2014.zip")
Remote(path='train2014.zip', url='http://images.cocodataset.org/zips/train2014.zip', size=None, sha256=None)
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam4mllm.errors import UserError


@dataclass(frozen=True, slots=True)
class Remote:
    """A file, and where it comes from. What is not known is None, never a guess.

    Attributes:
        path: where it goes below the root, with forward slashes.
        url: its http or https address; None where it can only be had by hand.
        size: in bytes.
        sha256: of its bytes, 64 hexadecimal digits.

    Raises:
        UserError: for a path that leaves the root, another kind of address, or what cannot be a size or a checksum.
    """

    path: str
    url: str | None
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if not path.name or path.is_absolute() or ".." in path.parts or "\\" in self.path:
            raise UserError(f"a file goes to a path below the root, got {self.path!r}")
        if self.url is not None and not re.match(r"https?://[^/]", self.url):
            raise UserError(f"{self.path}: an address begins with http:// or https://, got {self.url!r}")
        if self.size is not None and self.size < 0:
            raise UserError(f"{self.path}: a size is 0 bytes or more, got {self.size}")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UserError(f"{self.path}: a SHA-256 is 64 digits of 0-9a-f, got {self.sha256!r}")


def is_whole(remote: Remote, target: Path) -> bool:
    """Whether the file is there, of the size and checksum that are known; where neither is, that it is there."""
    if not target.is_file() or remote.size not in (None, target.stat().st_size):
        return False
    return remote.sha256 in (None, sha256_of(target))


def wrong(remote: Remote, file: Path) -> str:
    """What is wrong with a file that came, by its known size and checksum; empty where nothing is."""
    size = file.stat().st_size
    if remote.size not in (None, size):
        return f"{size:,} bytes came, and {remote.size:,} are due"
    if remote.sha256 not in (None, found := sha256_of(file)):
        return f"the SHA-256 is {found}, and {remote.sha256} is due"
    return ""


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def free_space(folder: Path) -> int:
    """Free bytes on the disk that a folder lies on, or will lie on."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def need_room(what: str, size: int, folder: Path, free: Callable[[Path], int]) -> None:
    """Refuse to begin what does not fit.

    Raises:
        UserError: saying what is needed and what is free.
    """
    there = free(folder)
    if size > there:
        raise UserError(f"{what} needs {size:,} bytes below {folder}, and {there:,} are free")
