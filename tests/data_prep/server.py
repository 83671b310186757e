"""A server on this machine that misbehaves. It uses its replies in turn, and the last one for all later requests."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(700_000)
OTHER = np.random.default_rng(1).bytes(650_000)
TAG = '"one"'


class Handler(BaseHTTPRequestHandler):
    """Passes each request to the next reply."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
            reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        reply(self)

    do_HEAD = do_GET

    def start(self, status: int, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """No log."""


Reply = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """Replies to send, and the requests that came: path and headers."""

    daemon_threads = True

    def __init__(self, replies: Sequence[Reply]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = list(replies)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def serve(*replies: Reply) -> Iterator[Server]:
    with Server(replies) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def send_file(
    content: bytes = CONTENT,
    tag: str | None = TAG,
    date: str | None = None,
    cut: int | None = None,
    ranges: bool = True,
    careless: bool = False,
    announced: int | None = None,
) -> Reply:
    """The file or the requested rest of it; optionally cut, without ranges or If-Range, or with a wrong length."""

    def reply(handler: Handler) -> None:
        requested = handler.headers.get("Range")
        unchanged = careless or handler.headers.get("If-Range") in (None, tag, date)
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and ranges and unchanged else 0
        headers = {"ETag": tag, "Last-Modified": date}
        if start >= len(content) > 0:
            handler.start(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
            return
        rest = content[start:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.start(206 if start else 200, {**headers, "Content-Length": announced or len(rest)})
        if handler.command == "GET":
            handler.wfile.write(rest[:cut])

    return reply


def send_status(status: int, **headers: object) -> Reply:
    """A status without a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.start(status, {"Content-Length": 0, **named})


def silent(handler: Handler) -> None:
    """Nothing, until the server ends."""
    handler.server.ended.wait(10)


def stall(handler: Handler) -> None:
    """The first half of the file, then nothing until the server ends."""
    handler.start(200, {"Content-Length": len(CONTENT), "ETag": TAG})
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])
    handler.wfile.flush()
    handler.server.ended.wait(10)


def send_chunks(cut: bool = False) -> Reply:
    """The file without its length, in two chunks, or only the first of them."""

    def reply(handler: Handler) -> None:
        handler.start(200, {"Transfer-Encoding": "chunked"})
        half = len(CONTENT) // 2
        for piece in (CONTENT[:half],) if cut else (CONTENT[:half], CONTENT[half:], b""):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    return reply


def send_compressed(handler: Handler) -> None:
    """The file as gzip, although the request does not accept that."""
    body = gzip.compress(CONTENT)
    handler.start(200, {"Content-Encoding": "gzip", "Content-Length": len(body), "ETag": TAG})
    handler.wfile.write(body)


def send_without_length(handler: Handler) -> None:
    """The file without its length: it ends when the connection ends."""
    handler.start(200, {"ETag": TAG})
    handler.wfile.write(CONTENT)


def send_range(start: int, length: int = 5) -> Reply:
    """A part of the file, whatever was requested."""

    def reply(handler: Handler) -> None:
        content_range = f"bytes {start}-{start + length - 1}/{len(CONTENT)}"
        handler.start(206, {"Content-Range": content_range, "Content-Length": length, "ETag": TAG})
        handler.wfile.write(CONTENT[start : start + length])

    return reply
