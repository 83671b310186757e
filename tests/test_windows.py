"""What Windows lacks or refuses, imitated: no `fcntl`, no sync of a file opened for reading, no replaced open files.

Nothing here was run on Windows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.samples import Sample, write_samples

LIKE_WINDOWS = """
import errno, os, sys

fsync, replace, rename, unlink = os.fsync, os.replace, os.rename, os.unlink
flags = {}
if os.path.isdir("/proc/self/fdinfo"):
    def fsync_as_windows(number):
        with open(f"/proc/self/fdinfo/{number}") as file:
            mode = int(file.read().split("flags:")[1].split()[0], 8) & os.O_ACCMODE
        if mode == os.O_RDONLY:
            raise OSError(errno.EBADF, "read-only descriptor")
        fsync(number)

    def refuse_open(path):
        for number in os.listdir("/proc/self/fd"):
            try:
                held = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue
            if held == os.path.realpath(path) and not held.endswith("lock"):
                raise OSError(errno.EACCES, "in use", str(path))

    def moving(call):
        def moves(source, target, **options):
            refuse_open(source), refuse_open(target)
            return call(source, target, **options)
        return moves

    def removes(path, **options):
        refuse_open(path)
        return unlink(path, **options)

    os.fsync, os.replace, os.rename = fsync_as_windows, moving(replace), moving(rename)
    os.unlink = os.remove = removes
sys.modules["fcntl"] = None  # importing it is an ImportError now
import warnings
warnings.simplefilter("ignore")
from sam4mllm import Pipeline
from sam4mllm.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path) -> Path:
    """An image, and a folder of two samples of it."""
    PIL.Image.fromarray(np.zeros((48, 64, 3), dtype=np.uint8)).save(tmp_path / "scene.png")
    write_samples([Sample(name, "scene.png", 64, 48, "the red ring", ()) for name in "ab"], tmp_path / "set", tmp_path)
    return tmp_path


def run(home: Path, *words: str) -> None:
    models = ["--mllm", "tiny", "--segmenter", "tiny", "--prompter", "box", "--device", "cpu"]
    command = [sys.executable, "-c", LIKE_WINDOWS, *words, *models]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_infer_of_the_embedded_models(home):
    run(home, "infer", "scene.png", "--phrase", "the red ring", "--out", "out")
    [record] = (home / "out").glob("*.json")
    assert json.loads(record.read_text())["phrase"] == "the red ring"


def test_predict_by_shards_and_the_run_that_joins_them(home):
    run(home, "predict", "set", "--out", "out/p.jsonl", "--shard", "1/2")
    run(home, "predict", "set", "--out", "out/p.jsonl", "--shard", "2/2", "--retry-failed")
    run(home, "predict", "set", "--out", "out/p.jsonl")
    assert len((home / "out" / "p.jsonl").read_text().splitlines()) == 2
    assert {path.name for path in (home / "out").iterdir()} == {"p.jsonl", "p.settings.json", "p.timings.jsonl"}
