"""Download the files of a data set over HTTP or from the hub: resumed, retried, checked, unpacked.

    downloads/set.zip.part         the bytes so far
    downloads/set.zip.part.json    {"url": …, "stamp": the server's ETag or Last-Modified, "size": in bytes}
    downloads/set.zip.hub          the same for a file on the hub; a folder of `huggingface_hub`

A file gets its name when it is complete and correct.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import requests

from sam4mllm import __version__
from sam4mllm.data_prep.sources import File, Source
from sam4mllm.data_prep.unpack import check_free_space, unpack
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import os_errors_as_user_errors, release_lock, sync_file, take_lock, write_text

Progress: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in total (None: unknown)
Bar: TypeAlias = Callable[[str], AbstractContextManager[Progress]]

ATTEMPTS = 6  # failed attempts in a row that bring no new bytes
TIMEOUT = 60.0  # seconds to connect, and between two reads
MAX_WAIT = 60.0  # seconds between two attempts: 1, 2, 4, … or the server's Retry-After
_RETRY_STATUSES = (408, 416, 425, 429, 500, 502, 503, 504)  # 416: the part is longer than the file, so start again
_HUB_URL = re.compile(r"https://huggingface\.co/datasets/([^/]+/[^/]+)/resolve/([^/]+)/([^?#]+)")


def format_plan(source: Source, root: Path) -> str:
    """One line for each missing file: path, content, size, URL."""
    lines = []
    for file in source.missing_files(root):
        size = "unknown size" if file.bytes is None else f"{file.bytes:,} bytes"
        lines.append(f"{file.path}, {file.description}, {size}: {file.url or f'by hand, see {source.page}'}")
    return "\n".join(lines) or f"{source.name}: all files are there"


def download(source: Source, root: Path, *, print_line: Callable[[str], None], bar: Bar) -> str:
    """Download and unpack the missing files of a data set.

    Args:
        source: data set.
        root: folder of the raw files.
        print_line: prints a line.
        bar: opens a progress bar.

    Returns:
        One line about the files that have no URL, or an empty string.

    Raises:
        UserError: if a file cannot be downloaded or unpacked.
    """
    files = source.missing_files(root)
    for file in files:
        if file.url is None:
            continue
        target = root / file.path
        is_new = download_file(file, file.url, target, bar)
        print_line(f"{target}: {'downloaded' if is_new else 'already there'}")
        if file.is_archive:
            with bar(f"unpacking {target.name}") as progress:
                count = unpack(target, progress)
            print_line(f"{target}: {count:,} files unpacked; the archive may be removed")
    by_hand = ", ".join(file.path for file in files if file.url is None)
    return by_hand and f"{source.name} has files without a URL: see {source.page} and put them in {root}: {by_hand}"


def download_file(file: File, url: str, target: Path, bar: Bar) -> bool:
    """Download or resume one file; False if it is already there.

    Raises:
        UserError: if the server refuses, keeps failing or keeps sending wrong bytes, if the disk is full, or if
            another run is downloading the file.
    """
    if target.is_file() and not file.mismatch(target):
        return False
    with os_errors_as_user_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(target.with_name(f".{target.name}.lock"), f"another run is downloading {target}")
        try:
            if _HUB_URL.fullmatch(url):
                _download_from_hub(file, url, target)
            else:
                with bar(target.name) as progress:
                    _PartialFile(file, url, target, progress).download()
        finally:
            release_lock(lock)
    return True


def _download_from_hub(file: File, url: str, target: Path) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository, revision, name = _HUB_URL.findall(url)[0]
    stage = target.with_name(f"{target.name}.hub")
    try:
        metadata = get_hf_file_metadata(hf_hub_url(repository, name, repo_type="dataset", revision=revision))
        check_free_space(file.path, metadata.size or 0, target.parent)
        path = Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision, local_dir=stage))
    except Exception as error:  # the library's own, its HTTP client's, the system's
        reason = " ".join(str(error).split()).partition(" for url")[0]  # not the address of a mirror
        raise UserError(f"cannot download {url}: {reason}") from error
    reason = file.mismatch(path)
    if not reason:
        sync_file(path)
        path.replace(target)
    shutil.rmtree(stage)
    if reason:
        raise UserError(f"cannot download {url}: {reason}")


class _PartInfo(NamedTuple):
    url: str
    stamp: str | None
    size: int


class _PartialFile:
    """A file that is being downloaded over HTTP.

    It is resumed only if the server confirms that the file is unchanged (If-Range), or if its SHA-256 is known.
    """

    def __init__(self, file: File, url: str, target: Path, progress: Progress) -> None:
        self.file, self.url, self.target, self.progress = file, url, target, progress
        self.path = target.with_name(f"{target.name}.part")
        self.info_path = target.with_name(f"{target.name}.part.json")

    def download(self) -> None:
        """Attempt until the file is complete and correct, then move it to its target."""
        failures, most_bytes = 0, self._size()
        try:
            while True:
                try:
                    self._attempt()
                    break
                except requests.RequestException as error:
                    failures = 1 if self._size() > most_bytes else failures + 1
                    most_bytes = max(most_bytes, self._size())
                    self._wait(error, failures)
            sync_file(self.path)
            self.path.replace(self.target)
        finally:
            if self._read_info() is None:  # moved, or cannot be resumed
                self._discard()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def _discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.info_path.unlink(missing_ok=True)

    def _read_info(self) -> _PartInfo | None:
        """The download that the part belongs to; None if it cannot be resumed."""
        try:
            info = _PartInfo(**json.loads(self.info_path.read_bytes()))
            is_valid = info.url == self.url and 0 < self._size() <= info.size
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return info if is_valid and (info.stamp or self.file.sha256) else None

    def _wait(self, error: requests.RequestException, failures: int) -> None:
        """Sleep before the next attempt; a `UserError` if there is none."""
        cause: BaseException = error
        while cause.__context__ is not None:  # "timed out", not what requests and urllib3 wrap around it
            cause = cause.__context__
        message = f"cannot download {self.url}: {' '.join(str(cause).split())}"
        response = error.response
        is_final = response is not None and response.status_code not in _RETRY_STATUSES
        if is_final or isinstance(error, ValueError):  # ValueError: an invalid address
            raise UserError(message) from error
        if failures == ATTEMPTS:
            is_resumable = self._read_info() is not None
            hint = f"run again to resume at byte {self._size():,}" if is_resumable else "nothing was kept"
            raise UserError(f"{message}; gave up after {failures} attempts, {hint}") from error
        retry_after = "" if response is None else response.headers.get("Retry-After", "")
        seconds = float(retry_after) if retry_after.isdecimal() else 0.0
        time.sleep(min(max(2.0 ** (failures - 1), seconds), MAX_WAIT))

    def _attempt(self) -> None:
        info = self._read_info()
        if info is None or self._size() < info.size:
            headers = {"User-Agent": f"sam4mllm/{__version__}", "Accept-Encoding": "identity"}
            if info is not None:
                headers |= {"Range": f"bytes={self._size()}-"} | ({"If-Range": info.stamp} if info.stamp else {})
            with requests.get(self.url, headers=headers, timeout=TIMEOUT, stream=True) as response:
                self._receive(response, self._begin(response, info))
        if reason := self.file.mismatch(self.path):
            self._discard()
            raise requests.RequestException(reason)

    def _begin(self, response: requests.Response, info: _PartInfo | None) -> int | None:
        """Check a response and prepare the part for it; the size of the file, None if the server does not give it."""
        status, headers = response.status_code, response.headers
        if status >= 400:
            if status == 416:
                self._discard()
            raise requests.HTTPError(f"the server answered {status} {response.reason}", response=response)
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise requests.RequestException("the server sent the file compressed")
        tag = headers.get("ETag", "W/")  # W/: a weak ETag, which does not promise equal bytes
        stamp = headers.get("Last-Modified") if tag.startswith("W/") else tag
        size: int | None = response.raw.length_remaining
        if status == 206 and info is not None:
            size = info.size
            content_range = rf"bytes {self._size()}-\d+/{size}"
            if not re.fullmatch(content_range, headers.get("Content-Range", "")) or stamp not in (None, info.stamp):
                self._discard()
                raise requests.RequestException("the server sent another part than requested")
        elif status != 200:
            raise requests.RequestException(f"the server answered {status} and did not send the file")
        if size is not None and self.file.bytes not in (None, size):
            self._discard()
            raise requests.RequestException(f"the server has {size:,} bytes instead of {self.file.bytes:,}")
        if (size, self.file.bytes, self.file.sha256) == (None,) * 3 and "Transfer-Encoding" not in headers:
            raise UserError(f"cannot download {self.url}: its size is unknown, so it could be incomplete")
        if status == 200:
            self._discard()
            write_text(self.info_path, json.dumps({"url": self.url, "stamp": stamp, "size": size}) + "\n")
        return size

    def _receive(self, response: requests.Response, size: int | None) -> None:
        """Append the body of a response to the part."""
        total, done = self.file.bytes if size is None else size, self._size()
        check_free_space(self.file.path, (total or 0) - done, self.path.parent)
        with self.path.open("ab") as stream:
            for chunk in response.iter_content(1 << 16):
                stream.write(chunk)
                done += len(chunk)
                self.progress(done, total)
        if size is not None and done < size:
            raise requests.RequestException(f"the server sent {done:,} of {size:,} bytes")
