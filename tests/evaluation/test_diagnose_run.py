import json
from pathlib import Path

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import write_samples
from sam4mllm.evaluation.attribution import read_breakdowns
from sam4mllm.evaluation.diagnose import segmenter_config
from sam4mllm.prediction.record import Prediction
from tests.drawing import filled
from tests.report.made import PREDICTIONS, SAMPLES, samples


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    """Runs the command in ``tmp_path``, which holds samples and prediction files."""
    monkeypatch.chdir(tmp_path)
    write_samples(samples(tmp_path / "images"), Path("set"), Path("images"))
    write_samples(SAMPLES[:1], Path("one"), Path("images"))
    boxes = PREDICTIONS[:-1]
    last = Prediction("mislabelled", (), filled(0, 0, 8, 10))
    Path("p.jsonl").write_text("".join(f"{one.to_line()}\n" for one in (*boxes, last)))
    Path("cut.jsonl").write_text(f"{boxes[0].to_line()}\n")
    Path("noted.jsonl").write_text(Path("p.jsonl").read_text())
    Path("noted.settings.json").write_text("[1]")
    Path("points.jsonl").write_text("".join(f"{one.to_line()}\n" for one in PREDICTIONS))
    Path("points.settings.json").write_text('{"segmenter": "grabcut"}')
    Path("points.timings.jsonl").touch()
    return command


def test_diagnose_writes_a_file_and_prints_tables(run):
    words = ["diagnose", "set", "p.jsonl", "--segmenter", "box", "--profile", "rela", "--by", "targets"]
    code, out, err = run(*words, "--out", "d.jsonl")
    assert code == 0
    entries = read_breakdowns(Path("d.jsonl"))
    assert [entry.id for entry in entries] == [one.id for one in SAMPLES]
    assert "| lost to | all |" in out
    assert "| lost to, by targets | none | 1 | 2 |" in out
    assert "P(yes)" not in out  # no points were asked about
    assert "warning: 1 masks change when redrawn, first mislabelled" in err
    first = Path("d.jsonl").read_bytes()
    assert run(*words, "--out", "d.jsonl")[0] == 0
    assert Path("d.jsonl").read_bytes() == first


def test_the_stored_segmenter_is_the_default(run):
    words = ["predict", "set", "--prompter", "oracle", "--segmenter", "grabcut"]
    assert run(*words, "--out", "drawn.jsonl")[0] == 0
    code, out, err = run("diagnose", "set", "drawn.jsonl", "--profile", "rela", "--out", "d.jsonl")
    assert code == 0
    [warning] = [line for line in err.splitlines() if line.startswith("warning")]
    assert f"{len(SAMPLES)} of {len(SAMPLES)} predictions come from an oracle" in warning
    assert "| redrawn | 0 (0) |" in out
    named = ["--segmenter", "box", "--profile", "rela", "--out", "d.jsonl"]
    assert "takes no points" in run("diagnose", "set", "drawn.jsonl", *named)[2]


@pytest.mark.parametrize(("profile", "warned"), [("lavt", True), ("rela", False)])
def test_a_profile_without_credit_for_none_gives_a_warning(run, profile, warned):
    words = ["--segmenter", "box", "--profile", profile, "--out", "d.jsonl"]
    code, _, err = run("diagnose", "set", "p.jsonl", *words)
    assert code == 0
    says = "warning: 1 expressions have no target, first talkative: under this profile their IoU is 0 for any"
    assert (says in err) == warned


def test_the_stored_segmenter_settings_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.settings.json").write_text('{"segmenter": "tiny", "single_mask": true, "dtype": "bfloat16"}')
    assert segmenter_config(Path("a.jsonl")) == PipelineConfig(segmenter="tiny", single_mask=True, dtype="bfloat16")
    assert segmenter_config(Path("a.jsonl"), "box") == PipelineConfig(segmenter="box")


def test_point_answers_are_compared_with_the_ground_truth(run):
    code, out, _ = run(
        "diagnose", "set", "points.jsonl", "--segmenter", "grabcut", "--profile", "rela", "--out", "d.jsonl"
    )
    assert code == 0
    assert "| 0.1 to 0.2 | 1 | 10.00 | 100.00 | 0.00 |" in out
    assert "expected calibration error: 90.00 % of 1 points" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["set", "p.jsonl"], "the settings of p.jsonl do not name its segmenter: pass --segmenter"),
        (["set", "noted.jsonl"], "noted.settings.json is not a JSON object of settings"),
        (["set", "p.jsonl", "--segmenter", "grabcat"], "did you mean grabcut"),
        (["set", "p.jsonl", "--segmenter", "box", "--by", "colour"], "choose from size"),
        (["set", "p.jsonl", "--segmenter", "box", "--profile", "coco"], "choose one of lavt"),
        (["set", "missing.jsonl", "--segmenter", "box"], "cannot read missing.jsonl"),
        (["one", "p.jsonl", "--segmenter", "box"], "7 predictions match no sample, first failed (p.jsonl, line 2)"),
        (["set", "cut.jsonl", "--segmenter", "box"], "7 samples have no prediction, first failed (cut.jsonl)"),
        (["set", "points.jsonl", "--segmenter", "box"], "takes no points"),
        (["set", "p.jsonl", "--segmenter", "box", "--images", "elsewhere"], "no such file"),
        (["set", "p.jsonl", "--segmenter", "box", "--out", "set"], "cannot write set"),
        (["set", "p.jsonl", "--segmenter", "box", "--out", "p.jsonl"], "cannot write p.jsonl: it is an input file"),
        (["set", "p.jsonl", "--segmenter", "box", "--out", "x/../p.settings.json"], "it is an input file"),
        (["set", "points.jsonl", "--segmenter", "grabcut", "--out", "points.settings.json"], "it is an input file"),
        (["set", "points.jsonl", "--segmenter", "grabcut", "--out", "./points.timings.jsonl"], "it is an input file"),
    ],
)
def test_a_user_error_is_one_line_and_writes_no_file(run, words, says):
    given = [] if "--profile" in words else ["--profile", "rela"]
    out = [] if "--out" in words else ["--out", "d.jsonl"]
    code, _, err = run("diagnose", *words, *given, *out)
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        line for line in err.splitlines() if says in line
    ]
    assert says in err
    assert not Path("d.jsonl").exists()
    assert Path("points.settings.json").read_text() == '{"segmenter": "grabcut"}'
    assert not Path("p.settings.json").exists()


def test_a_diagnosis_line_is_plain_json(run):
    assert run("diagnose", "set", "p.jsonl", "--segmenter", "box", "--profile", "rela", "--out", "d.jsonl")[0] == 0
    record = json.loads(Path("d.jsonl").read_text().splitlines()[6])
    assert record == {"version": 2, "id": "loose", "iou": 0.8, "lost": {"loose box": 0.2}}
