"""The protocols from samples to tables, on small datasets with the real names and splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.samples import Sample, read_samples, write_samples
from sam4mllm.evaluation.attribution import read_breakdowns
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.protocols.gres import GRES
from sam4mllm.protocols.reasonseg import REASONSEG
from sam4mllm.protocols.res import RES
from tests.report.parsed import Page, stands_alone

ORACLE = ("--predict", "--prompter", "oracle", "--segmenter", "grabcut")


def mask(columns):
    found = np.zeros((24, 32), dtype=bool)
    found[4:20, 4 : 4 + columns] = True
    return Rle.from_mask(found)


@pytest.fixture
def data(tmp_path) -> Path:
    """Four samples per split; one has no target except in RES, and every second one is a sentence."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[4:20, 4:16] = 250
    (tmp_path / "data" / "images").mkdir(parents=True)
    PIL.Image.fromarray(pixels).save(tmp_path / "data" / "images" / "p.png")
    for place in (
        "refcoco/val",
        "refcoco+/testB",
        "refcocog/test",
        "grefcoco/testA",
        "reasonseg/val",
        "reasonseg/test",
    ):
        name, split = place.split("/")
        samples = [
            Sample(
                f"{name}-{split}-{number}",
                "p.png",
                32,
                24,
                "the block",
                () if number == 3 and not name.startswith("refcoco") else (mask(12),),
                kind=("phrase", "sentence")[number % 2],
            )
            for number in range(4)
        ]
        write_samples(samples, tmp_path / "data" / place, tmp_path / "data" / "images")
    return tmp_path / "data"


@pytest.fixture
def run(data, tmp_path, command):
    """Runs a protocol's command on that data: arguments in, (exit code, standard output, standard error) out."""
    options = ["--samples", data, "--predictions", tmp_path / "out", "--draws", 20]
    return lambda protocol, *words: command("eval", protocol.name, *options, *words)


def say(data, split, columns=12):
    """Writes predictions like `predict`: the first columns of the block, or an empty mask without a target."""
    file = data.parent / "out" / f"{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        Prediction(sample.id, (), mask(columns) if sample.masks else mask(0)).to_line()
        for sample in read_samples(data / split)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def cells(shown, name):
    [line] = [line for line in shown.splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_our_row_follows_the_published_rows_with_a_dash_for_missing_parts(run, data):
    say(data, "refcoco/val", 6)
    say(data, "refcocog/test")
    code, shown, _ = run(RES, "--name", "mine")
    assert code == 0
    assert cells(shown, "mine") == ["mine", "50.0", "–", "–", "–", "–", "–", "–", "100.0"]
    assert cells(shown, "SAM4MLLM-8B")[1:3] == ["79.8", "82.7"]
    assert "RefCOCO testA was not measured: no predictions at" in shown
    assert "RefCOCO val was not measured" not in shown
    assert shown.count("profile:lavt|n:4|samples:") == 2


@pytest.mark.parametrize("form", ["markdown", "latex", "json"])
def test_published_scores_have_a_mark_and_a_footnote_and_recalled_scores_are_left_out(run, form):
    shown = run(RES, "--format", form)[1]
    if form == "markdown":
        assert "| SAM4MLLM-8B (PQPP) † |" in shown
        assert "- † read in a table that another paper or repository prints" in shown
    assert "SAM4MLLM-8B (PQPP)" in shown
    assert "SAM4MLLM-7B (PQPP)" not in shown


def test_a_contested_line_is_marked_in_every_format(run):
    shown = {form: run(REASONSEG, "--format", form)[1] for form in ("markdown", "latex", "json")}
    says = "SAM4MLLM-8B: these may be the numbers of the 7B model"
    assert "| SAM4MLLM-8B †‡ | 46.7 |" in shown["markdown"]
    assert f"\n- ‡ {says}" in shown["markdown"]
    assert r"SAM4MLLM-8B $^\dagger$$^\ddagger$ & 46.7 &" in shown["latex"]
    assert f"\n% ‡ {says}" in shown["latex"]
    marked = [line["method"] for line in json.loads(shown["json"])["published"] if line["contested"]]
    assert marked == ["SAM4MLLM-8B"]
    assert "‡" not in run(RES)[1]


@pytest.mark.parametrize("form", ["markdown", "latex", "json"])
@pytest.mark.parametrize("protocol", [RES, GRES, REASONSEG], ids=lambda protocol: protocol.name)
def test_without_predictions_our_row_has_no_scores(run, protocol, form):
    code, shown, _ = run(protocol, "--format", form)
    assert code == 0
    if form == "json":
        found = json.loads(shown)
        assert found["ours"]["parts"] == {}
        assert list(found["missing"]) == [part.name for part in protocol.parts]
    else:
        row = next(line for line in shown.splitlines() if "measured here" in line)
        assert not any(letter.isdigit() for letter in row)
        assert row.count("–" if form == "markdown" else "--") == len(protocol.parts) * len(protocol.metrics)


def test_short_and_long_are_parts_of_one_split(run, data):
    say(data, "reasonseg/test", 6)
    found = json.loads(run(REASONSEG, "--format", "json")[1])["ours"]["parts"]
    assert {name: scores["n"] for name, scores in found.items()} == {"test": 4, "test short": 2, "test long": 2}
    assert [found[name]["metrics"]["gIoU"] for name in found] == pytest.approx([0.625, 0.5, 0.75], abs=1e-5)
    assert found["test"]["signature"]["profile"] == "lisa"


def test_workers_predict_the_same_files(run, data, tmp_path):
    assert run(GRES, *ORACLE)[0] == 0
    lock_folder = (tmp_path / "out" / "grefcoco" / "testA.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "out")
    assert run(GRES, *ORACLE, "--workers", 2)[0] == 0
    assert (tmp_path / "out" / "grefcoco" / "testA.jsonl").read_bytes() == lock_folder


def test_one_command_predicts_and_scores_and_marks_an_oracle(run, data, tmp_path):
    code, shown, err = run(GRES, *ORACLE, "--positive", 2, "--seed", 5)
    assert code == 0
    assert "grefcoco/testA: 4 samples" in err
    assert err.splitlines()[-1] == f"predictions are in {tmp_path / 'out'}"
    assert all(prediction.oracle for prediction in read_predictions(tmp_path / "out" / "grefcoco" / "testA.jsonl"))
    settings = json.loads((tmp_path / "out" / "grefcoco" / "testA.settings.json").read_text())
    assert settings["prompter"] == "oracle"
    assert settings["options"] == {"positive": 2, "seed": 5}
    assert "| measured here (oracle, no model) |" in shown
    assert "testA: prompts made from the ground truth; the segmenter's ceiling, not a model's score" in shown
    before = (tmp_path / "out" / "grefcoco" / "testA.jsonl").read_bytes()
    assert run(GRES, *ORACLE, "--positive", 2, "--seed", 5)[1] == shown
    assert (tmp_path / "out" / "grefcoco" / "testA.jsonl").read_bytes() == before
    assert run(GRES)[1:] == (shown, "")
    assert not [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.diagnosis.jsonl")]  # only with --diagnose


def test_predictions_without_a_stored_segmenter_need_one(run, data):
    say(data, "refcoco/val")
    code, _, err = run(RES, "--diagnose")
    assert code == 2
    assert "do not name its segmenter: pass --segmenter" in err.splitlines()[-1]


def test_diagnose_writes_a_breakdown_and_a_page_per_split(run, tmp_path):
    code, shown, err = run(REASONSEG, *ORACLE, "--diagnose")
    assert code == 0, err
    assert err.splitlines()[-1] == f"predictions and pages are in {tmp_path / 'out'}"
    for split in ("val", "test"):
        file = tmp_path / "out" / "reasonseg" / f"{split}.jsonl"
        entries = read_breakdowns(file.with_suffix(".diagnosis.jsonl"))
        assert [one.id for one in entries] == [one.id for one in read_predictions(file)]
        assert all(one.lost.keys() <= {"segmenter"} for one in entries)  # the prompts are the true ones
        page = file.with_suffix(".html").read_text()
        assert stands_alone(page)
        assert Page(page).text("h1") == [f"reasonseg: {split}"]
        assert f"reasonseg/{split}, with images in {file.with_suffix('.html')}:\n\n| lost to | all |" in shown
    assert shown.count("| lost to, by kind | short | long |") == 2
    assert shown.index("| measured here (oracle, no model) |") < shown.index("| lost to | all |")


def test_breakdowns_go_to_standard_error_for_machine_readable_formats(run):
    code, shown, err = run(GRES, *ORACLE, "--diagnose", "--format", "json")
    assert code == 0
    assert json.loads(shown)["ours"]["parts"]["testA"]["n"] == 4
    assert "| lost to | all |" in err


def test_external_predictions_are_diagnosed_with_the_given_segmenter(run, data):
    say(data, "refcoco/val", 6)
    code, shown, err = run(RES, "--diagnose", "--segmenter", "grabcut")
    assert code == 0
    assert "| redrawn | -50.00 (4) |" in shown  # the mask has half of the block, but no prompt
    assert "warning: refcoco/val: 4 masks change when redrawn" in err


def cut(file):
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))


@pytest.mark.parametrize(
    ("words", "damage", "says"),
    [
        pytest.param((), cut, "refcoco/val: 2 samples have no prediction, first refcoco-val-2", id="partial"),
        pytest.param((), lambda file: file.write_text(""), "holds no predictions: 4 samples", id="empty"),
        pytest.param(("--format", "html"), None, "choose from markdown, latex, json", id="format"),
        pytest.param(("--mllm", "tiny"), None, "options of models need --predict", id="a model without --predict"),
        pytest.param(("--workers", 2), None, "options of models need --predict", id="workers without --predict"),
        pytest.param(("--batch-size", 9), None, "options of models need --predict", id="batches without --predict"),
        pytest.param(
            ("--retry-failed",), None, "options of models need --predict", id="asking again without --predict"
        ),
        pytest.param(
            ("--diagnose", "--segmenter", "grabcut", "--prompter", "pqpp"),
            None,
            "options of models need --predict",
            id="a prompter without --predict",
        ),
        pytest.param(("--predict", "--device", "cpu,cpu"), None, "2 devices need as many workers", id="devices"),
        pytest.param(("--predict",), None, "no MLLM is set", id="no model"),
        pytest.param((*ORACLE, "--mllm", "tiny"), None, "oracle does not use an MLLM", id="an oracle and a model"),
        pytest.param((*ORACLE, "--points", 9), None, "it takes positive, negative, seed", id="an option of another"),
        pytest.param((*ORACLE, "--positive", -1), None, "0 or more points", id="minus one point"),
        pytest.param((*ORACLE, "--samples", "nowhere"), None, "no samples of res in", id="no samples"),
    ],
)
def test_a_user_error_is_one_line(run, data, words, damage, says):
    file = say(data, "refcoco/val")
    if damage:
        damage(file)
    else:
        file.unlink()
    code, out, err = run(RES, *words)
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")


def test_predictions_of_another_split_are_refused(run, data):
    say(data, "refcoco/val").rename(say(data, "refcoco+/testB"))
    code, _, err = run(RES)
    assert code == 2
    assert "error: refcoco+/testB: the predictions belong to another dataset: none of the 4" in err


def test_predictions_without_samples_are_an_error(run, data):
    say(data, "refcoco/val")
    (data / "refcoco" / "val").rename(data / "gone")
    code, _, err = run(RES)
    assert code == 2
    assert "but no samples at" in err


@pytest.mark.parametrize(
    ("protocol", "parts"), [(RES, 8), (GRES, 3), (REASONSEG, 4)], ids=lambda value: getattr(value, "name", value)
)
def test_a_protocol_has_the_parts_of_its_papers(protocol, parts):
    assert len({part.name for part in protocol.parts}) == len(protocol.parts) == parts
    assert all(len(split.split("/")) == 2 for split in protocol.splits)
