"""huggingface_hub with a server on this machine; in a process of its own, as the library reads its settings once."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.data_prep.server import CONTENT, send_status, serve

URL = "https://huggingface.co/datasets/owner/name/resolve/main/a/set.json"
SHA = hashlib.sha256(CONTENT).hexdigest()
LARGE = CONTENT * 16
SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from sam4mllm.data_prep.download import download_file
from sam4mllm.data_prep.sources import File
from sam4mllm.data_prep.unpack import shutil
from sam4mllm.errors import UserError
url, target, size, sha256, free = sys.argv[1:]
if free:
    shutil.disk_usage = lambda folder: SimpleNamespace(free=int(free))
try:
    print(download_file(File("set.json", "a set", url, int(size) or None, sha256 or None), url, Path(target), None))
except UserError as error:
    print("error:", error)
"""


def send_as_hub(content, cut=None):
    """The replies of the hub; if cut, the connection breaks unless a range is requested."""

    def reply(handler):
        requested = handler.headers.get("Range")
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        headers = {"X-Repo-Commit": "0" * 40, "ETag": f'"{SHA[:40]}"', "Content-Length": len(content) - start}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.start(206 if start else 200, headers)
        if handler.command == "GET":
            handler.wfile.write(content[start:] if start else content[:cut])

    return reply


def fetch(server, root, size=0, sha256="", free=""):
    """What a process prints that downloads the file."""
    words = [sys.executable, "-c", SCRIPT, URL, str(root / "a" / "set.json"), str(size), sha256, str(free)]
    settings = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.address, "NO_PROXY": "127.0.0.1", "HF_HOME": str(root)}
    process = subprocess.run(words, capture_output=True, text=True, env=os.environ | settings, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in (root / "a").rglob("*"))


def test_a_file_on_the_hub_is_downloaded_once(tmp_path):
    with serve(send_as_hub(CONTENT)) as server:
        assert fetch(server, tmp_path, len(CONTENT), SHA) == "True"
        count = len(server.requests)
        assert fetch(server, tmp_path, len(CONTENT), SHA) == "False"
    assert (tmp_path / "a" / "set.json").read_bytes() == CONTENT
    assert files(tmp_path) == ["a/set.json"]
    assert len(server.requests) == count
    assert "/datasets/owner/name/resolve/main/a/set.json" in {path for path, _ in server.requests}


def test_a_broken_connection_to_the_hub_is_resumed(tmp_path):
    with serve(send_as_hub(LARGE, cut=-100)) as server:
        assert fetch(server, tmp_path, len(LARGE)) == "True"
    assert "bytes=10485760-" in server.ranges  # the library keeps whole pieces of 10 MiB
    assert (tmp_path / "a" / "set.json").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("reply", "known", "message"),
    [
        pytest.param(send_as_hub(CONTENT), {"sha256": "0" * 64}, f"SHA-256 {SHA} instead of 000", id="wrong bytes"),
        pytest.param(send_as_hub(CONTENT), {"size": 5}, "700,000 bytes instead of 5", id="wrong size"),
        pytest.param(send_as_hub(CONTENT), {"free": 5}, "set.json needs 700,000 bytes below", id="a full disk"),
        pytest.param(send_status(404), {}, "404", id="404"),
    ],
)
def test_a_failed_download_from_the_hub_is_one_line_and_leaves_nothing(tmp_path, reply, known, message):
    with serve(reply) as server:
        output = fetch(server, tmp_path, **known)
    assert output.startswith(f"error: cannot download {URL}: ")
    assert "\n" not in output
    assert message in output
    assert server.address not in output
    assert files(tmp_path) == []
