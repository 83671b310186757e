"""Validation samples during a training: scores, predictions and contact sheets."""

from pathlib import Path

import numpy as np
import pytest

from sam4mllm.data.samples import write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Frame
from sam4mllm.images.files import read_image, write_png
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import format_boxes
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prediction.record import read_predictions
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import samples_of
from sam4mllm.training.config.finetune import Validation
from sam4mllm.training.validation import check_images, choose_samples, make_scoring

DIALECT = dialect("sam4mllm")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    """Samples of four scenes with one object each."""
    monkeypatch.chdir(tmp_path)
    samples = []
    for index in range(4):
        drawing = draw_split("val", index, Level(objects=(1, 1), kinds=("res",)), size=64)
        write_png(Path(f"images/{index}.png"), drawing.image)
        samples += samples_of(drawing, f"{index}.png", "val")
    write_samples(samples, Path("set"), Path("images"))
    return "set"


def score_fn(folder, reply):
    """Three samples, and the function that scores them if the model replies with the boxes of ``reply``."""
    validation = Validation(folder, "box", prompter="box", count=3)
    samples = choose_samples(validation)
    assert len(samples) == 3
    scoring = make_scoring(validation, samples, ScriptedMLLM(reply, dialect=DIALECT), {}, Path("out"), None)
    return samples, scoring.score


def test_predictions_are_scored_and_drawn_at_each_step(folder):
    samples, score = score_fn(folder, lambda key, *_: replies[key])
    replies = {}
    for sample in samples:
        frame = Frame.unscaled(sample.width, sample.height)
        replies[sample.id] = format_boxes([sample.ground_truth.box], sample.phrase, DIALECT, frame)
    scores = score(200)
    assert scores["box"] == 1.0
    assert scores["cIoU"] > 0.5
    assert (scores["unreadable"], scores["failed"]) == (0, 0)
    predictions = read_predictions(Path("out/step-000200.jsonl"))
    assert [prediction.id for prediction in predictions] == [sample.id for sample in samples]
    assert read_image(Path("out/step-000200.png")).shape[1] > 900

    replies = dict.fromkeys(replies, "Well, who knows?")
    scores = score(200)
    assert (scores["cIoU"], scores["unreadable"]) == (0.0, 1.0), "an older file of the step is replaced"
    score(400)
    assert {path.name for path in Path("out").glob("*.png")} == {"step-000200.png", "step-000400.png"}


def test_an_image_that_is_damaged_later_gives_a_failed_prediction_and_a_blank_tile(folder):
    samples, score = score_fn(folder, lambda *_: "none")
    assert score(1)["failed"] == 0
    damaged, *others = samples
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:60]), Path.unlink):
        damage(samples.path(damaged))
        assert score(2)["failed"] == pytest.approx(1 / 3)
        predictions = {prediction.id: prediction for prediction in read_predictions(Path("out/step-000002.jsonl"))}
        failed = predictions[damaged.id]
        assert damaged.image in failed.error
        assert (failed.mask.area, failed.replies) == (0, ())
        assert not any(predictions[sample.id].error for sample in others)
        before, after = (read_image(Path(f"out/step-00000{step}.png"))[8:300, 8:344] for step in (1, 2))
        assert len(np.unique(after.reshape(-1, 3), axis=0)) < len(np.unique(before.reshape(-1, 3), axis=0)) / 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read", id="truncated"),
        pytest.param(lambda path: write_png(path, np.zeros((20, 30, 3), np.uint8)), "is 30 x 20 pixels", id="size"),
    ],
)
def test_images_are_checked_before_the_training(folder, damage, message):
    samples = choose_samples(Validation(folder, "grabcut"))
    check_images(samples)
    damage(samples.path(samples.samples[1]))
    with pytest.raises(UserError, match=f"validation sample {samples.samples[1].id}: .*{message}"):
        check_images(samples)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"prompter": "oracle"}, "oracle, which uses no model: choose from ppg, pqpp", id="oracle"),
        pytest.param({"images": "nowhere"}, r"validation sample \S+: no such file: nowhere/0.png", id="images"),
        pytest.param({"segmenter": "grabcat"}, "did you mean grabcut", id="segmenter"),
        pytest.param({"segmenter": "box"}, "the segmenter box takes no points", id="points for box"),
        pytest.param({"prompter": "pgp"}, "did you mean ppg", id="prompter"),
        pytest.param({"samples": "nowhere"}, "nowhere is not a samples folder", id="samples"),
    ],
)
def test_names_that_are_not_valid_are_refused(folder, values, message):
    with pytest.raises(UserError, match=message):
        choose_samples(Validation(**{"samples": folder, "segmenter": "grabcut", **values}))


def test_samples_are_spread_evenly_over_the_folder(folder):
    all_samples, two = (choose_samples(Validation(folder, "grabcut", count=count)) for count in (99, 2))
    expected = [all_samples.samples[index].id for index in (0, len(all_samples) // 2)]
    assert [sample.id for sample in two] == expected
