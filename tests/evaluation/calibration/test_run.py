"""`sam4mllm calibrate` with scripted models in place of the adapter's model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet, write_samples
from sam4mllm.errors import UserError
from sam4mllm.evaluation.calibration.sweep import PAPER
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.runtime.provenance import hash_indices
from sam4mllm.training.checkpoints import is_complete, seal
from tests.evaluation.calibration.test_sweep import Leaning, Nearest, samples  # noqa: F401  a fixture

WORDS = ["--segmenter", "grabcut", "--layout", "grid", "--layout", "interior", "--points", 4, "--points", 9]


@pytest.fixture
def talker(monkeypatch) -> Leaning:
    talker = Leaning()
    monkeypatch.setattr(PipelineConfig, "build_mllm", lambda self: talker.mllm)
    monkeypatch.setattr(PipelineConfig, "build_segmenter", lambda self: Nearest())
    return talker


@pytest.fixture
def adapter(tmp_path, samples) -> Path:  # noqa: F811
    """An adapter with a card, and the splits train, val, test and two (two images with four samples each)."""
    for split, some in (("train", samples.samples), ("val", samples.samples[:2]), ("test", samples.samples[2:])):
        own = [replace(one, id=f"{one.id}-{split}", split=split) for one in some]
        write_samples(own, tmp_path / split, samples.images)
    many = [
        replace(one, id=f"{one.id}-{image}-{n}", image=image, split="val")
        for one in samples.samples[:2]
        for image in ("p.png", "q.png")
        for n in range(2)
    ]
    write_samples(many, tmp_path / "two", samples.images)
    card = AdapterCard("b", "sam4mllm", "a/b", prompters={"ppg": {"positive": 2}, "pqpp": {}})
    replace(card, data=hash_indices([str(tmp_path / "train")])).write(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").touch()
    return tmp_path / "adapter"


def test_the_chosen_options_become_the_adapters_defaults(command, adapter, talker):
    code, out, err = command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS)
    assert code == 0
    report = json.loads((adapter / "calibration" / "report.json").read_text())
    card = AdapterCard.read(adapter)
    assert card.prompters == {"ppg": {"positive": 2}, "pqpp": report["chosen"]}
    assert PipelineConfig(adapter=str(adapter), prompter="pqpp").resolved().options == report["chosen"]
    assert report["chosen"]["sure_yes"] < PAPER.thresholds.yes
    assert report["validation"]["calibrated"] > report["validation"]["the paper's thresholds"]
    assert (report["counts"]["settings"], report["counts"]["samples"], report["gains"]) == (4 * 64, 2, {})
    assert report["counts"]["masks"] < 4 * 64
    assert "| calibrated |" in out
    assert "warning" not in err
    words = f"predict {adapter.parent / 'val'} --adapter {adapter} --prompter pqpp"
    assert err.splitlines()[-1].startswith(f"next: sam4mllm {words} --segmenter ")


def test_a_calibrated_checkpoint_can_still_be_resumed(command, adapter, talker):
    seal(adapter)
    assert command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS)[0] == 0
    assert AdapterCard.read(adapter).prompters["pqpp"]
    assert is_complete(adapter)


def test_the_gain_is_measured_on_the_test_split(command, adapter, talker):
    words = ["--test", adapter.parent / "test", "--draws", 20]
    code, out, err = command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS, *words)
    assert code == 0
    assert "warning" not in err
    report = json.loads((adapter / "calibration" / "report.json").read_text())
    for name in ("the paper's thresholds", "uncalibrated"):
        apart = report["test"]["calibrated"] - report["test"][name]
        assert report["gains"][name] == [pytest.approx(apart), None, None]  # one image gives no interval
    assert f"{100 * report['gains']['uncalibrated'][0]:+.2f}" in out


def test_a_stopped_run_resumes_without_repeating_questions(command, adapter, talker, monkeypatch):
    words = ["calibrate", adapter.parent / "two", "--adapter", adapter, *WORDS, "--batch-size", 1]
    assert command(*words)[0] == 0
    file, card = adapter / "calibration" / "asked.jsonl", (adapter / "sam4mllm.json").read_bytes()
    whole, point_answers = file.read_bytes(), dict(talker.point_answers)
    file.write_bytes(b"".join(line for line in whole.splitlines(keepends=True) if b"-p.png" in line) + b'{"vers')
    talker.point_answers.clear()
    assert command(*words)[0] == 0
    assert (file.read_bytes(), (adapter / "sam4mllm.json").read_bytes()) == (whole, card)
    assert {key for key, _ in point_answers} - {key for key, _ in talker.point_answers} == {
        key for key, _ in point_answers if "-p.png" in key
    }
    assert talker.point_answers
    monkeypatch.setattr(PipelineConfig, "build_mllm", lambda self: pytest.fail("loaded"))
    assert command(*words)[0] == 0


def test_failed_samples_are_reported_and_retried(command, adapter, talker, samples):  # noqa: F811
    words = ["calibrate", adapter.parent / "two", "--adapter", adapter, *WORDS]
    report, card = adapter / "calibration" / "report.json", (adapter / "sam4mllm.json").read_bytes()
    assert command(*words)[0] == 0
    whole, chosen = report.read_bytes(), (adapter / "sam4mllm.json").read_bytes()
    (adapter / "calibration" / "asked.jsonl").unlink()
    (adapter / "sam4mllm.json").write_bytes(card)

    for name in ("p.png", "q.png"):
        (samples.images / name).rename(samples.images / f"_{name}")
    code, _, err = command(*words)
    assert code == 2
    assert "error: cannot calibrate: all 8 samples failed, first " in err
    assert (adapter / "sam4mllm.json").read_bytes() == card

    (samples.images / "_p.png").rename(samples.images / "p.png")
    code, _, err = command(*words)
    assert code == 0
    assert "warning: 4 of 8 samples failed; run the same command again to retry them; first: " in err
    (samples.images / "_q.png").rename(samples.images / "q.png")
    code, _, err = command(*words)
    assert (code, "samples failed" in err) == (0, False)
    assert (report.read_bytes(), (adapter / "sam4mllm.json").read_bytes()) == (whole, chosen)


def test_an_adapter_trained_on_list_questions_gives_a_warning(command, adapter, talker):
    replace(AdapterCard.read(adapter), prompters={"pqpp": {"ask": "list"}}).write(adapter)
    code, _, err = command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS)
    assert code == 0
    assert "warning: the adapter labels all points in one reply" in err
    assert "ask" not in AdapterCard.read(adapter).prompters["pqpp"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["train", *WORDS], "the adapter was trained on ", id="training split"),
        pytest.param(["val", "--test", "train", *WORDS], "the adapter was trained on ", id="training split as test"),
        pytest.param(["val", "--test", "val", *WORDS], "--test is the validation split", id="same split"),
        pytest.param(["val", *WORDS, "--profile", "lisa", "--metric", "mIoU"], "choose from gIoU, cIoU", id="metric"),
        pytest.param(["val", *WORDS, "--profile", "coco"], "choose one of lavt", id="profile"),
        pytest.param(["val", *WORDS, "--points", 5], "a square number for the grid", id="grid"),
        pytest.param(["val", *WORDS, "--layout", "spiral"], "unknown layout 'spiral'", id="layout"),
        pytest.param(["val", "--segmenter", "box"], "takes no points", id="segmenter of boxes"),
        pytest.param(["none", *WORDS], "none", id="no such split"),
        pytest.param(["empty", *WORDS], "has no samples", id="no samples"),
        pytest.param(["val", *WORDS, "--adapter", "val"], "writes to the adapter's sam4mllm.json", id="no card"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_the_card_unchanged(command, adapter, talker, monkeypatch, words, says):
    monkeypatch.chdir(adapter.parent)
    write_samples([], Path("empty"), Path())
    before = (adapter / "sam4mllm.json").read_bytes()
    code, _, err = command("calibrate", "--adapter", "adapter", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    assert (adapter / "sam4mllm.json").read_bytes() == before
    assert not talker.point_answers


def test_an_undefined_metric_is_an_error(command, adapter, talker):
    words = ["--profile", "rela", "--metric", "N_acc"]  # undefined: all samples have a target
    before = (adapter / "sam4mllm.json").read_bytes()
    code, _, err = command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS, *words)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: N_acc of rela is undefined on these samples")
    assert (adapter / "sam4mllm.json").read_bytes() == before
    assert not (adapter / "calibration" / "report.json").exists()


def test_calibrating_on_a_test_split_gives_a_warning(command, adapter, talker):
    code, _, err = command("calibrate", adapter.parent / "test", "--adapter", adapter, *WORDS)
    assert code == 0
    assert "warning: the validation samples belong to the split test" in err


def test_images_in_both_splits_give_a_warning(command, adapter, talker, samples):  # noqa: F811
    other = SampleSet(tuple(replace(one, id=f"{one.id}-other") for one in samples.samples[:2]), samples.images)
    write_samples(other, adapter.parent / "other", samples.images)
    words = ["--test", adapter.parent / "other", "--draws", 20]
    code, _, err = command("calibrate", adapter.parent / "val", "--adapter", adapter, *WORDS, *words)
    assert code == 0
    assert "warning: 1 images are in both splits, for example p.png" in err


def test_an_empty_search_space_is_an_error():
    from sam4mllm.evaluation.calibration.choice import SearchSpace

    with pytest.raises(UserError, match="no layouts"):
        SearchSpace(())
