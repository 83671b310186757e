"""The weights that ship with the package reach their accuracy by a margin that survives small changes of libraries."""

from pathlib import Path

import numpy as np
import pytest

import sam4mllm
from sam4mllm.geometry.prompts import is_on_mask
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.prompters import Query
from sam4mllm.prompters.load import PrompterSpec
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import Level, draw_split
from tiny_models.mllm import share_of_boxes_found
from tiny_models.sam import TWINS, measure

FOLDER = Path(sam4mllm.__file__).parent / "tiny" / "weights"


def test_the_weights_are_small_safetensors_and_nothing_else():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 20e6
    assert {file.suffix for file in files} == {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize("most", [1, 2])
def test_the_mllm_finds_boxes(most):
    mllm = MLLMSpec("tiny", device="cpu").load()
    assert share_of_boxes_found(mllm, "test", Level(objects=(most, most), kinds=("res",)), 60) > 0.75


# peft reads properties of transformers by deprecated names
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("way", "options", "least"),
    [("ppg", {"positive": 9, "negative": 9}, 0.8), ("pqpp", {"points": 16, "sure_yes": 0.7, "sure_no": 0.8}, 0.75)],
)
def test_the_points_of_the_adapters_have_the_right_label(way, options, least):
    """The points are on figures that share their box with another figure."""
    mllm = MLLMSpec("tiny", adapter=str(FOLDER / way), device="cpu").load()
    drawings = [draw_split("test", index, Level(objects=(2, 2), kinds=("res",), twins=0.85)) for index in range(12)]
    pairs = [(drawing, expression) for drawing in drawings for expression in drawing.ambiguous]
    answers = PrompterSpec(way, options).load(mllm)(
        [Query(drawing.image, expression.text) for drawing, expression in pairs]
    )
    right = [
        is_on_mask(drawing.masks(expression)[0], point.x, point.y) is point.positive
        for (drawing, expression), answer in zip(pairs, answers, strict=True)
        for prompt in answer.prompts[:1]
        for point in prompt.points
    ]
    assert len(right) > 50
    assert np.mean(right) > least


def test_points_improve_masks_if_figures_share_a_box():
    segmenter = SegmenterSpec("tiny", device="cpu").load()
    shares = measure(segmenter.model, segmenter.processor, 15, TWINS)
    assert shares[3] > 70
    assert shares[3] > shares[0] + 15
