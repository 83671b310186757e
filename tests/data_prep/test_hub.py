"""The hub's own library against a server on this machine; in a process of its own, for it reads its settings once."""

import hashlib
import os
import subprocess
import sys

import pytest

from sam4mllm.data_prep.hub import fetch_from_hub, is_on_hub
from sam4mllm.data_prep.remote import Remote
from sam4mllm.errors import UserError
from tests.data_prep.server import CONTENT, says, serving

ADDRESS = "https://huggingface.co/datasets/owner/name/resolve/main/a/set.json"
SHA = hashlib.sha256(CONTENT).hexdigest()
LARGE = CONTENT * 16
FETCH = """
import sys
from pathlib import Path
from sam4mllm.data_prep.hub import fetch_from_hub
from sam4mllm.data_prep.remote import Remote
from sam4mllm.errors import UserError
url, root, size, sha256, free = sys.argv[1:]
try:
    remote = Remote("a/set.json", url, int(size) or None, sha256 or None)
    print(fetch_from_hub(remote, Path(root), free=lambda _: int(free)))
except UserError as error:
    print("error:", error)
"""


def hub(handler):
    """As the hub answers for a small file."""
    handler.start(200, {"X-Repo-Commit": "0" * 40, "ETag": f'"{SHA[:40]}"', "Content-Length": len(CONTENT)})
    if handler.command == "GET":
        handler.wfile.write(CONTENT)


def broken_once(handler):
    """As the hub for a large file, but the connection breaks near its end, unless that end alone is asked for."""
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    part = {"Content-Range": f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"} if start else {}
    about = {"X-Repo-Commit": "0" * 40, "ETag": f'"{SHA[:40]}"', "Content-Length": len(LARGE) - start}
    handler.start(206 if start else 200, about | part)
    if handler.command == "GET":
        handler.wfile.write(LARGE[start:] if start else LARGE[:-100])


def got(server, root, size=0, sha256="", free=10**12):
    """What a fresh process prints."""
    words = [sys.executable, "-c", FETCH, ADDRESS, str(root), str(size), sha256, str(free)]
    settings = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": server.address,
        "NO_PROXY": "127.0.0.1",
        "HF_HOME": str(root / "hf"),
    }
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | settings, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in (root / "a").rglob("*"))


def test_a_file_of_the_hub_comes_whole_and_once(tmp_path):
    with serving(hub) as server:
        assert got(server, tmp_path, len(CONTENT), SHA) == "True"
        asked = len(server.asked)
        assert got(server, tmp_path, len(CONTENT), SHA) == "False"
    assert (tmp_path / "a" / "set.json").read_bytes() == CONTENT
    assert files(tmp_path) == ["a/set.json"]
    assert len(server.asked) == asked
    assert "/datasets/owner/name/resolve/main/a/set.json" in {path for path, _ in server.asked}


def test_the_library_goes_on_where_a_connection_broke(tmp_path):
    with serving(broken_once) as server:
        assert got(server, tmp_path, len(LARGE), hashlib.sha256(LARGE).hexdigest()) == "True"
    assert "bytes=10485760-" in server.ranges  # it keeps whole pieces of 10 MiB
    assert (tmp_path / "a" / "set.json").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("reply", "how", "message"),
    [
        pytest.param(hub, {"sha256": "0" * 64}, f"the SHA-256 is {SHA}", id="wrong bytes"),
        pytest.param(hub, {"size": 5}, "700,000 bytes came, and 5 are due", id="wrong size"),
        pytest.param(hub, {"free": 5}, "needs 700,000 bytes", id="a full disk"),
        pytest.param(says(404), {}, "404", id="404"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(tmp_path, reply, how, message):
    with serving(reply) as server:
        said = got(server, tmp_path, **how)
    assert said.startswith("error: ")
    assert "\n" not in said
    assert message in said
    assert not (tmp_path / "a" / "set.json").exists()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ADDRESS, True),
        ("https://huggingface.co/owner/model/resolve/main/a.json", False),
        ("https://huggingface.co/datasets/owner/name", False),
        ("http://images.cocodataset.org/zips/train2014.zip", False),
    ],
)
def test_a_data_sets_file_on_the_hub_is_known_by_its_address(address, expected):
    assert is_on_hub(address) == expected


def test_another_address_is_refused(tmp_path):
    with pytest.raises(UserError, match="no address of a data set's file"):
        fetch_from_hub(Remote("a", "http://127.0.0.1/a"), tmp_path)
