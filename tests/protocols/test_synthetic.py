"""The synthetic benchmark on few scenes: predictions, tables and output files."""

import re

import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.protocols.methods import METHODS
from sam4mllm.protocols.synthetic import evaluate, methods_named, recipe_of
from sam4mllm.protocols.synthetic_tables import PARTS, Found, tables
from sam4mllm.synthetic.shards import AMBIGUOUS
from tests.drawing import HEIGHT, WIDTH, filled
from tests.report.parsed import Page, stands_alone

LEFT, RIGHT, NOTHING = filled(0, 0, 8, 10), filled(10, 0, 18, 10), Rle.empty(HEIGHT, WIDTH)
DRAWS = Bootstrap(20)


def made(name, masks, kind="phrase"):
    return Sample(name, f"{name}.png", WIDTH, HEIGHT, "the cat", masks, kind=kind)


SAMPLES = (made("one", (LEFT,)), made("two", (LEFT, RIGHT)), made("none", ()), made("riddle", (RIGHT,), "sentence"))
IOUS = {"one": 0.5, "two": 0.5, "none": 0.0, "riddle": 1.0}
SAID = {"one": filled(0, 0, 4, 10), "two": LEFT, "none": LEFT, "riddle": RIGHT}


def found():
    """Half of one target, one of two targets, a mask without a target, and a perfect mask."""
    return Found(
        [Prediction(name, (), mask) for name, mask in SAID.items()],
        [ErrorBreakdown(name, iou, {"segmenter": 1 - iou}) for name, iou in IOUS.items()],
    )


def rows(text, start):
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_table_scores_its_own_expressions_under_its_own_profile():
    text = tables(SAMPLES, {"mine": found()}, DRAWS)
    res, gres, reasoning = rows(text, "mine")
    assert res[:4] == ["mine", "1", "50.00", "50.00"]
    assert gres[:5] == ["mine", "3", "33.33", "37.50", "0.00"]  # 40 + 80 of 80 + 160 pixels, and 80 more said for none
    assert reasoning[:4] == ["mine", "1", "100.00", "100.00"]
    assert re.findall(r"profile:(\w+)\|n:(\d)", text) == [("lavt", "1"), ("rela", "3"), ("lisa", "1")]


def test_the_error_breakdown_of_each_table_covers_the_same_expressions():
    text = tables(SAMPLES, {"mine": found(), "yours": found()}, DRAWS)
    assert rows(text, "mean IoU") == [["mean IoU", iou, iou] for iou in ("50.00", "33.33", "100.00")]
    assert rows(text, "expressions") == [["expressions", n, n] for n in "131"]


def test_a_part_without_samples_has_no_table():
    one = Found(found().predictions[:1], found().entries[:1])
    assert tables(SAMPLES[:1], {"mine": one}, DRAWS).count("## ") == 2  # that of RES, and GRES holds it too


def test_methods_are_compared_on_the_same_expressions():
    better = [Prediction(one.id, (), one.masks[0] if one.masks else Rle.empty(HEIGHT, WIDTH)) for one in SAMPLES]
    text = tables(SAMPLES, {"box": found(), "ppg": Found(better, found().entries)}, DRAWS)
    _, (gain, low, high), *_ = re.findall(r"- `ppg` less `box`: (\S+) \((\S+) to (\S+)\)", text)
    assert gain == "+29.2"  # 160 of 240 pixels, for one of the two has one mask of two, less 37.5
    assert float(low) <= 29.2 <= float(high)
    assert "`pqpp` less" not in text


def test_the_ambiguous_expressions_can_be_evaluated_alone(tmp_path):
    text = evaluate(tmp_path, 6, methods_named(["oracle-box", "oracle"]), DRAWS, ambiguous=True)
    said = read_predictions(tmp_path / "oracle.jsonl")
    assert said
    assert all(one.id.endswith(AMBIGUOUS) for one in said)
    assert f"|n:{len(said)}|" in text


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_built(name):
    recipe_of(METHODS[name]).check(has_ground_truth=True)


def test_pqpp_has_the_papers_thresholds_and_calibrated_has_others():
    fixed, own = (recipe_of(METHODS[name]).resolved().options for name in ("pqpp", "calibrated"))
    assert (fixed["sure_yes"], fixed["sure_no"]) == (0.75, 0.9) != (own["sure_yes"], own["sure_no"])


# peft asks transformers for properties by names that it deprecates
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_every_method_predicts_once_and_is_in_every_table(tmp_path, capsys):
    text = evaluate(tmp_path, 2, METHODS, DRAWS)
    assert (tmp_path / "tables.md").read_text() == text
    assert [f"## {part.title}" in text for part in PARTS] == [True] * 4
    for name in METHODS:
        shown = f"{name} (oracle, no model)" if name.startswith("oracle") else name
        assert len(rows(text, shown)) == 4
        assert f"- `{name}`: " in text
    assert len(re.findall(r"- `pqpp` less `ppg`: [+-]", text)) == 4
    assert all(row[1:] == ["0 (0)"] * len(METHODS) for stage in ("failed", "redrawn") for row in rows(text, stage))
    assert "pqpp.html is not written" not in capsys.readouterr().err
    page = (tmp_path / "pqpp.html").read_text()
    assert stands_alone(page)
    assert Page(page).text("h1") == ["shapes: calibrated and ppg"]
    before = {name: (tmp_path / f"{name}.timings.jsonl").read_bytes() for name in METHODS}
    again = evaluate(tmp_path, 2, methods_named(["oracle", "ppg"]), DRAWS)
    assert rows(again, "ppg") == rows(text, "ppg")
    assert "pqpp.html is not written: it compares calibrated with ppg, and needs both" in capsys.readouterr().err
    assert {name: (tmp_path / f"{name}.timings.jsonl").read_bytes() for name in METHODS} == before


@pytest.mark.parametrize(
    ("words", "says"), [(("--way", "guess"), "unknown way 'guess': choose from zero-shot"), (("--out", "file"), "file")]
)
def test_a_user_error_is_one_line(tmp_path, monkeypatch, command, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = command("eval", "synthetic", "--out", "out", "--scenes", 1, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert says in err
    assert not (tmp_path / "out").exists()
