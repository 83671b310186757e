"""The prompts and scores that a survey gives for each setting, compared with PQPP."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.calibration.sweep import PAPER, Setting, Survey, SweepResult, sweep
from sam4mllm.evaluation.counts import CountColumns, PixelCounts
from sam4mllm.evaluation.pairing import evaluate_set
from sam4mllm.geometry.prompts import Box
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import write_png
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prompters import Query
from sam4mllm.prompters.points import Layout, Thresholds
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.segmenters import Capabilities, ScoredMask
from sam4mllm.segmenters.box import fill

PLACE = re.compile(r"\((\d+),(\d+)\)")
LAYOUTS = (Layout("grid", 9), Layout("low-discrepancy", 7), Layout("interior", 4), Layout("low-discrepancy", 3))
SETTINGS = [Setting(layout, Thresholds(yes, no)) for layout in LAYOUTS for yes in (0.5, 0.75) for no in (0.6, 0.9)]
SIDE = 40


class Nearest:
    """Labels each pixel of the box like its nearest point; without points it fills the box."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self.embedded, self.drawn = 0, 0

    def embed(self, image):
        self.embedded += 1
        return NearestScene(self)


class NearestScene:
    def __init__(self, segmenter) -> None:
        self.segmenter = segmenter

    def segment(self, prompts):
        self.segmenter.drawn += len(prompts)
        return [ScoredMask(nearest(prompt), 1.0) for prompt in prompts]


def nearest(prompt):
    mask = fill(prompt.box, SIDE, SIDE)
    if not prompt.points:
        return mask
    rows, columns = np.indices(mask.shape) + 0.5
    far = [np.hypot(columns - point.x, rows - point.y) for point in prompt.points]
    return mask & np.array([point.positive for point in prompt.points])[np.argmin(far, axis=0)]


class Leaning:
    """Predicts one box, two or none by the key, with a P(yes) that falls with x; counts its calls."""

    def __init__(self) -> None:
        self.point_answers = Counter()
        self.mllm = ScriptedMLLM(self.says, self.leans)

    def says(self, key, image, turns):
        self.point_answers[key, ""] += 1
        return {"a": "[100,100,700,900]", "b": "[50,100,500,600] [400,300,950,975]"}.get(key[0], "none")

    def leans(self, key, image, turns, question, options):
        self.point_answers[key, question] += 1
        yes = 0.98 - int(PLACE.findall(question)[-1][0]) / 1000
        return [max(yes, 0.02), 1 - max(yes, 0.02)]


@pytest.fixture
def samples(tmp_path: Path) -> SampleSet:
    write_png(tmp_path / "p.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    write_png(tmp_path / "q.png", np.ones((SIDE, SIDE, 3), np.uint8))
    one, two = (Rle.from_mask(fill(Box(4, 4, right, 36), SIDE, SIDE)) for right in (16, 22))

    def sample(key: str, image: str, *masks: Rle) -> Sample:
        return Sample(key, image, SIDE, SIDE, "it", masks)

    return SampleSet((sample("a1", "p.png", one), sample("b", "p.png", one, two), sample("a2", "q.png", two)), tmp_path)


def surveyed(samples, talker, folder, segmenter=None):
    predict(samples, Pipeline(Survey(talker.mllm, LAYOUTS), segmenter or Nearest()), folder / "asked.jsonl")
    return read_predictions(folder / "asked.jsonl")


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_survey_reproduces_the_prompts_of_pqpp_for_any_setting(samples, tmp_path, setting):
    found = surveyed(samples, Leaning(), tmp_path)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    point_answers = PQPP(Leaning().mllm, **setting.options)([Query(image, "it", sample.id) for sample in samples])
    assert [setting.prompts(one) for one in found] == [one.prompts for one in point_answers]
    assert any(prompt.points for one in found for prompt in setting.prompts(one))


def test_no_question_is_repeated_and_prompts_are_boxes_without_points(samples, tmp_path):
    talker = Leaning()
    found = surveyed(samples, talker, tmp_path)
    assert set(talker.point_answers.values()) == {1}
    assert [len(one.prompts) for one in found] == [1, 2, 1]
    assert all(prompt.points == () for one in found for prompt in one.prompts)
    assert len(found[0].point_answers) == len({(one.x, one.y) for one in found[0].point_answers}) < 9 + 7 + 4 + 3


def test_a_sweep_gives_the_scores_of_pqpp(samples, tmp_path):
    segmenter = Nearest()
    swept = sweep(samples, surveyed(samples, Leaning(), tmp_path), segmenter, SETTINGS, "lavt")
    assert segmenter.embedded == 2
    assert segmenter.drawn < len(SETTINGS) * 4
    for number, setting in enumerate(SETTINGS):
        file = tmp_path / f"{number}.jsonl"
        predict(samples, Pipeline(PQPP(Leaning().mllm, **setting.options), Nearest()), file)
        single = evaluate_set(samples.samples, read_predictions(file), "lavt")
        assert swept.pixels[setting].rows == single.pixels.rows
        assert swept.ratio(setting, "cIoU").value == single.ratios["cIoU"].value
    values = {setting: swept.ratio(setting, "cIoU").value for setting in SETTINGS}
    assert len(set(values.values())) > 3
    assert values[swept.best("cIoU")] == max(values.values())


def test_ties_go_to_fewer_points_then_to_thresholds_nearest_to_the_papers():
    layouts = (Layout("grid", 25), Layout("grid", 9))
    settings = [Setting(layout, Thresholds(yes, 0.8)) for layout in layouts for yes in (0.5, 0.8, 0.95)]
    same = {setting: CountColumns.of([PixelCounts(1, 2, 1, 2)]) for setting in settings}
    swept = SweepResult("lavt", same, np.zeros(1, dtype=np.int64), 0)
    assert swept.best("cIoU") == Setting(Layout("grid", 9), Thresholds(0.8, 0.8))
    better = Setting(Layout("grid", 25), Thresholds(0.5, 0.8))
    perfect = {**same, better: CountColumns.of([PixelCounts(2, 2, 2, 2)])}
    assert replace(swept, pixels=perfect).best("cIoU") == better
    undefined = {better: CountColumns.of([PixelCounts(0, 0, 0, 0)])}  # cIoU is 0 / 0
    assert replace(swept, pixels={**undefined, settings[1]: same[settings[1]]}).best("cIoU") == settings[1]


def test_a_failed_sample_has_an_empty_mask_for_every_setting(samples, tmp_path):
    gone = SampleSet((*samples.samples, Sample("a3", "gone.png", SIDE, SIDE, "it", samples.samples[0].masks)), tmp_path)
    swept = sweep(gone, surveyed(gone, Leaning(), tmp_path), Nearest(), SETTINGS, "lavt")
    assert {found.rows[3].prediction for found in swept.pixels.values()} == {0}


def test_a_layout_missing_from_the_survey_is_an_error(samples, tmp_path):
    found = surveyed(samples, Leaning(), tmp_path)
    with pytest.raises(UserError, match="the survey of a1 lacks a point"):
        sweep(samples, found, Nearest(), [PAPER], "lavt")
