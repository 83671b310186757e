"""Samples that are asked while a model is trained: figures, and the same pictures at every look."""

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
from sam4mllm.training.validation import check_images, choose_samples, make_scorer


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    """Samples of four scenes with one figure each."""
    monkeypatch.chdir(tmp_path)
    samples = []
    for index in range(4):
        drawing = draw_split("val", index, Level(objects=(1, 1), kinds=("res",)), size=64)
        write_png(Path(f"images/{index}.png"), drawing.image)
        samples += samples_of(drawing, f"{index}.png", "val")
    write_samples(samples, Path("set"), Path("images"))
    return "set"


def test_what_is_found_is_scored_and_drawn_at_every_look(folder):
    validation = Validation(folder, "box", prompter="box", count=3)
    samples = choose_samples(validation)
    assert len(samples) == 3
    row, known = dialect("sam4mllm"), {}
    for sample in samples:
        frame = Frame.whole(sample.width, sample.height)
        known[sample.id] = format_boxes([sample.truth.box], sample.phrase, row, frame)
    mllm = ScriptedMLLM(lambda key, *_: known[key], dialect=row)
    look = make_scorer(validation, samples, mllm, {}, Path("out"), None)
    figures = look(200)
    assert figures["box"] == 1.0
    assert figures["cIoU"] > 0.5
    assert (figures["unreadable"], figures["failed"]) == (0, 0)
    assert [one.id for one in read_predictions(Path("out/step-000200.jsonl"))] == [one.id for one in samples]
    assert read_image(Path("out/step-000200.png")).shape[1] > 900

    known = dict.fromkeys(known, "Well, who knows?")
    figures = look(200)
    assert (figures["cIoU"], figures["unreadable"]) == (0.0, 1.0), "the old file is not gone on with"
    look(400)
    assert {path.name for path in Path("out").glob("*.png")} == {"step-000200.png", "step-000400.png"}


def test_a_picture_that_goes_bad_is_a_failed_prediction_and_a_blank(folder):
    validation = Validation(folder, "box", prompter="box", count=3)
    samples = choose_samples(validation)
    look = make_scorer(validation, samples, ScriptedMLLM(lambda *_: "none"), {}, Path("out"), None)
    assert look(1)["failed"] == 0
    bad, *others = samples
    for spoil in (lambda path: path.write_bytes(path.read_bytes()[:60]), Path.unlink):
        spoil(samples.path(bad))
        assert look(2)["failed"] == pytest.approx(1 / 3)
        found = {one.id: one for one in read_predictions(Path("out/step-000002.jsonl"))}
        assert f"{bad.image}" in found[bad.id].error
        assert (found[bad.id].mask.area, found[bad.id].replies) == (0, ())
        assert not any(found[one.id].error for one in others)
        before, after = (read_image(Path(f"out/step-00000{step}.png"))[8:300, 8:344] for step in (1, 2))
        assert len(np.unique(after.reshape(-1, 3), axis=0)) < len(np.unique(before.reshape(-1, 3), axis=0)) / 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot read", id="cut short"),
        pytest.param(
            lambda path: write_png(path, np.zeros((20, 30, 3), np.uint8)), "is 30 x 20 pixels", id="another size"
        ),
    ],
)
def test_pictures_are_checked_before_they_are_needed(folder, spoil, says):
    samples = choose_samples(Validation(folder, "grabcut"))
    check_images(samples)
    spoil(samples.path(samples.samples[1]))
    with pytest.raises(UserError, match=f"validation sample {samples.samples[1].id}: .*{says}"):
        check_images(samples)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"prompter": "oracle"}, "oracle, which uses no model: choose from ppg, pqpp", id="oracle"),
        pytest.param({"images": "nowhere"}, r"validation sample \S+: no such file: nowhere/0.png", id="no pictures"),
        pytest.param({"segmenter": "grabcat"}, "did you mean grabcut", id="segmenter"),
        pytest.param({"segmenter": "box"}, "the segmenter box takes no points", id="points for box"),
        pytest.param({"prompter": "pgp"}, "did you mean ppg", id="prompter"),
        pytest.param({"samples": "nowhere"}, "nowhere is not a samples folder", id="samples"),
        pytest.param({"count": 0}, "got count 0", id="count"),
        pytest.param({"every": 0}, "every 0", id="every"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, values, says):
    with pytest.raises(UserError, match=says):
        choose_samples(Validation(**{"samples": folder, "segmenter": "grabcut", **values}))


def test_samples_are_spread_over_the_folder_and_never_more_than_there_are(folder):
    everyone = choose_samples(Validation(folder, "grabcut", count=99))
    few = choose_samples(Validation(folder, "grabcut", count=2))
    assert [one.id for one in few] == [everyone.samples[0].id, everyone.samples[len(everyone) // 2].id]
