"""Points without a box: read, written, segmented, scored and drawn, or refused before a model is loaded."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction, read_outcomes, read_predictions
from tests.running import invoke

POINTS = Prompt(None, (Point(40.5, 30.5), Point(5.5, 5.5, positive=False)))


@pytest.fixture
def photo(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save("photo.png")
    return "photo.png"


def test_a_prediction_is_read_as_it_was_written(tmp_path):
    prediction = Prediction("a", (POINTS, Prompt(Box(1, 2, 3, 4))), Rle.empty(60, 80))
    line = prediction.to_line()
    assert Prediction.from_line(line) == prediction
    assert Prediction.from_line(line).to_line() == line
    (tmp_path / "p.jsonl").write_text(line + "\n")
    assert list(read_predictions(tmp_path / "p.jsonl")) == [prediction]
    assert [outcome.box for outcome in read_outcomes(tmp_path / "p.jsonl")] == [None]


def test_clicks_alone_segment_an_object(photo):
    result = invoke("infer", photo, "--click", "40.5,30.5,+", "--segmenter", "tiny", "--out", "out", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    [record] = [json.loads(path.read_text()) for path in Path("out").glob("*.json")]
    assert record["prompts"] == [{"box": None, "points": [[40.5, 30.5, 1]]}]
    assert len(list(Path("out").glob("*.overlay.png"))) == 1


@pytest.mark.parametrize(
    ("segmenter", "problem"),
    [("box", "takes no points: remove them"), ("grabcut", "takes no points without a box: add a box")],
)
def test_a_segmenter_that_needs_a_box_is_refused_before_it_is_loaded(photo, segmenter, problem, monkeypatch):
    monkeypatch.setattr("sam4mllm.config.PipelineConfig.build_segmenter", lambda _: pytest.fail("loaded"))
    result = invoke("infer", photo, "--click", "40.5,30.5,+", "--segmenter", segmenter, "--out", "out")
    assert result.exit_code == 2
    assert result.stderr == f"error: the segmenter {segmenter} {problem}\n"
    assert not Path("out").exists()
