"""The weights that come with the package do what they are for, by a margin that no small change of a library undoes."""

from pathlib import Path

import pytest

import sam4mllm
from sam4mllm.builders import build_mllm, build_segmenter
from sam4mllm.shapes import Level
from sam4mllm.tiny.mllm import found
from sam4mllm.tiny.sam import TWINS, measure

FOLDER = Path(sam4mllm.__file__).parent / "tiny" / "weights"


def test_they_are_small_safetensors_and_nothing_else():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 20e6
    assert {file.suffix for file in files} == {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize("most", [1, 2])
def test_the_mllm_finds_boxes(most):
    mllm = build_mllm("tiny", device="cpu")
    assert found(mllm, "test", Level(objects=(most, most), kinds=("res",)), 60) > 0.75


def test_the_segmenter_reads_points_where_a_box_says_too_little():
    segmenter = build_segmenter("tiny", device="cpu")
    shares = measure(segmenter.model, segmenter.processor, 15, TWINS)
    assert shares[3] > 70
    assert shares[3] > shares[0] + 15
