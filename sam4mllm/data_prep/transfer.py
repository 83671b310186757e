"""One try at a file over HTTP: what has come is continued where it may be, and the whole is checked.

Beside the part lies what it is a part of:

    {"url": "http://127.0.0.1:8000/set.zip", "stamp": "\\"5b8f-3a\\"", "size": 1048576}

A part is continued only where the server says that the file is still the same (If-Range with its ETag or its date), or
where a known SHA-256 would show that it is not. Knows nothing of trying again.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from sam4mllm import __version__
from sam4mllm.data_prep.remote import Remote, need_room, wrong
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import one_line, write_text

CHUNK = 1 << 18
MOST = 1 << 36  # bytes of a file whose size nobody says; the largest picture archives have a third of it
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # what a server says of its own state, not of the file


class FailedTryError(Exception):
    """A try that failed, and why; another may not. ``wait``: how many seconds the server asks for before it."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class _Known:
    """What a part is a part of: the address, what the server calls this state of the file, and its whole size."""

    url: str
    stamp: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file on its way into ``file``, whose position is always its end."""

    remote: Remote
    url: str
    file: BinaryIO
    note: Path
    free: Callable[[Path], int]
    progress: Callable[[int, int | None], None]

    def attempt(self, timeout: float) -> None:
        """Ask for what is missing, and check the whole.

        Raises:
            FailedTryError: where another try may do better.
            UserError: where none can.
        """
        known = self._continued()
        if known is None:
            self.start_again()
        if known is None or known.size is None or self.file.tell() < known.size:
            try:
                with _OPENER.open(self._request(known), timeout=timeout) as response:
                    self._receive(response, known)
            except urllib.error.HTTPError as error:
                self._refused(error)
            except (OSError, http.client.HTTPException) as error:
                raise FailedTryError(_reason(error)) from error
        self._check()

    def start_again(self) -> None:
        """Throw away what has come."""
        with one_line(self.note):
            self.file.seek(0)
            self.file.truncate()

    def _continued(self) -> _Known | None:
        """What is known of the part where it may be continued; None where the file has to be sent from its start."""
        if not self.file.tell() or not self.note.is_file():
            return None
        try:
            known = _Known(**json.loads(self.note.read_bytes()))
        except (ValueError, TypeError):
            return None
        return known if known.url == self.url and (known.stamp or self.remote.sha256) else None

    def _request(self, known: _Known | None) -> urllib.request.Request:
        headers = {"User-Agent": f"sam4mllm/{__version__}", "Accept-Encoding": "identity"}
        if known is not None:
            headers["Range"] = f"bytes={self.file.tell()}-"
            if known.stamp is not None:
                headers["If-Range"] = known.stamp
        return urllib.request.Request(self.url, headers=headers)

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        said = f"the server says {error.code} {' '.join(str(error.reason).split())}"
        error.close()
        if error.code == 416:  # the part is longer than the file is now
            self.start_again()
            raise FailedTryError(said) from error
        if error.code in _TRY_AGAIN:
            wait = error.headers.get("Retry-After", "")
            raise FailedTryError(said, float(wait) if wait.isdecimal() else 0.0) from error
        raise UserError(f"cannot fetch {self.url}: {said}") from error

    def _receive(self, response: http.client.HTTPResponse, known: _Known | None) -> None:
        continued = response.status == 206 and known is not None
        _check_whole(response, continued)
        if not continued:
            self.start_again()
        size = self._rest_of(response, known) if continued and known is not None else response.length
        self._check_announced(size, response.chunked)
        due = self.remote.size if size is None else size
        with one_line(self.note):
            most = min(MOST, self.file.tell() + self.free(self.note.parent)) if due is None else due
            need_room(self.remote.path, (due or 0) - self.file.tell(), self.note.parent, self.free)
            if not continued:
                write_text(self.note, json.dumps(asdict(_Known(self.url, _stamp(response), size))) + "\n")
        while self.file.tell() <= most:
            # never beyond what was announced, and read1: what has come before a connection breaks is kept
            piece = response.read1(CHUNK if size is None else min(CHUNK, size - self.file.tell()))
            if not piece:
                break
            with one_line(self.note):
                self.file.write(piece)
            self.progress(self.file.tell(), due)
        if due is None and self.file.tell() > most:
            self.start_again()
            raise UserError(
                f"cannot fetch {self.url}: nobody says how long it is, and it is longer than {most:,} bytes"
            )
        if size is not None and self.file.tell() < size:
            raise FailedTryError(f"the connection ended after {self.file.tell():,} of {size:,} bytes")

    def _rest_of(self, response: http.client.HTTPResponse, known: _Known) -> int:
        """The size of the whole file, where what follows is the rest of what has come."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if (
            found is None
            or int(found[1]) != self.file.tell()
            or known.size not in (None, int(found[2]))
            or _stamp(response) not in (None, known.stamp)
        ):
            self.start_again()
            raise FailedTryError("the server sent another part than it was asked for")
        return int(found[2])

    def _check_announced(self, size: int | None, chunked: bool) -> None:
        if size is None and self.remote.size is None and self.remote.sha256 is None and not chunked:
            raise UserError(f"cannot fetch {self.url}: neither the server nor the table says how long it is")
        if size is not None and self.remote.size not in (None, size):
            self.start_again()
            raise FailedTryError(f"the server has a file of {size:,} bytes, and {self.remote.size:,} are due")

    def _check(self) -> None:
        with one_line(self.note):
            self.file.flush()
        if reason := wrong(self.remote, Path(self.file.name)):
            self.start_again()
            raise FailedTryError(reason)


def _check_whole(response: http.client.HTTPResponse, continued: bool) -> None:
    """Make sure that a reply is the file, or the rest of it that was asked for, as it is and not packed."""
    packed = response.headers.get("Content-Encoding", "identity")
    if packed.lower() != "identity":
        raise FailedTryError(f"the server sent it packed, as {packed!r:.40}, which it was not asked for")
    if response.status != 200 and not continued:
        raise FailedTryError(f"the server says {response.status}, and the whole file is due")


def _stamp(response: http.client.HTTPResponse) -> str | None:
    """What the server calls this state of the file; a weak ETag promises no equal bytes, so it is none."""
    tag: str | None = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _reason(error: OSError | http.client.HTTPException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(reason).__name__


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https alone, also where a server redirects: urllib's own would follow to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()
