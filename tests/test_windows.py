"""What Windows lacks is not imported: the package loads and answers where `fcntl` cannot be imported."""

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image

WITHOUT = """
import sys
sys.modules["fcntl"] = None  # importing it is an ImportError now
from sam4mllm import Pipeline
from sam4mllm.cli import main
main(sys.argv[1:])
"""


def test_infer_of_the_embedded_models_runs_where_fcntl_cannot_be_imported(tmp_path):
    PIL.Image.fromarray(np.zeros((48, 64, 3), dtype=np.uint8)).save(tmp_path / "scene.png")
    words = ["infer", str(tmp_path / "scene.png"), "--phrase", "the red ring", "--mllm", "tiny", "--segmenter", "tiny"]
    words += ["--prompter", "box", "--device", "cpu", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    [record] = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["phrase"] == "the red ring"
