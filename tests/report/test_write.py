from dataclasses import replace
from pathlib import Path

import pytest

from sam4mllm.data.samples import write_samples
from sam4mllm.evaluation.attribution import diagnose
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.prompters import PointAnswer
from tests.drawing import Painter
from tests.report.made import OTHERS, PREDICTIONS, samples
from tests.report.parsed import Page, picture_sizes, plain, stands_alone

BOTH = ["mine.jsonl", "--against", "other.jsonl", "--against-diagnosis", "other.lost"]


def contents():
    return {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    """Runs the command in ``tmp_path``, which holds samples, two prediction files and their diagnoses."""
    monkeypatch.chdir(tmp_path)
    there = samples(tmp_path / "images")
    write_samples(there, Path("set"), Path("images"))
    for name, said in (("mine", PREDICTIONS), ("other", OTHERS)):
        Path(f"{name}.jsonl").write_text("".join(f"{one.to_line()}\n" for one in said))
        Path(f"{name}.settings.json").write_text("{}")
        entries = diagnose(there, said, Painter(), "rela")
        Path(f"{name}.lost").write_text("".join(f"{one.to_line()}\n" for one in entries))
    return command


def test_a_report_of_two_runs(run):
    words = ["--profile", "rela", "--diagnosis", "mine.lost", "--against", "other.jsonl"]
    words += ["--against-diagnosis", "other.lost", "--by", "targets", "--cards", 2, "--draws", 50]
    code, out, _ = run("report", "set", "mine.jsonl", *words, "--out", "x/page.html")
    assert code == 0
    assert out.startswith("x/page.html: ")
    text = Path("x/page.html").read_text()
    assert stands_alone(text)
    assert Page(text).text("h1") == ["set: mine and other"]
    assert Page(text).text("h2")[:4] == ["Better than other", "Worse than other", "Best", "Worst"]


def test_a_diagnosis_is_optional(run):
    assert run("report", "set", "mine.jsonl", "--profile", "lavt", "--out", "page.html")[0] == 0
    text = Path("page.html").read_text()
    assert "Lost IoU" not in plain(text)
    assert "mIoU" in plain(text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mine.jsonl", "--against", "mine.jsonl"], "mine.jsonl is given twice"),
        (["mine.jsonl", "--against-diagnosis", "other.lost"], "--against-diagnosis needs --against"),
        (["mine.jsonl", "--diagnosis", "other.lost"], "belongs to other predictions or another profile"),
        (["mine.jsonl", "--diagnosis", "mine.jsonl"], "mine.jsonl, line 1: not a diagnosis record"),
        (["mine.jsonl", "--by", "colour"], "choose from size"),
        (["mine.jsonl", "--out", "set"], "cannot write set"),
        (["mine.jsonl", "--out", "./mine.jsonl"], "cannot write mine.jsonl: it is an input file"),
        (["mine.jsonl", "--diagnosis", "mine.lost", "--out", "mine.lost"], "it is an input file"),
        (["mine.jsonl", "--against", "other.jsonl", "--out", "link.html"], "it is an input file"),
        ([*BOTH, "--out", "other.lost"], "it is an input file"),
        (["mine.jsonl", "--out", "mine.settings.json"], "it is an input file"),
        (["mine.jsonl", "--out", "mine.timings.jsonl"], "it is an input file"),
        ([*BOTH[:3], "--out", "other.settings.json"], "it is an input file"),
        ([*BOTH[:3], "--out", "other.timings.jsonl"], "it is an input file"),
        (["missing.jsonl"], "cannot read missing.jsonl"),
        (["."], "cannot read .: it is a folder"),
        (["mine.jsonl", "--against", "less.jsonl"], "1 samples have no prediction, first right (less.jsonl)"),
        (["mine.jsonl", "--against", "strange.jsonl"], "match no sample, first x (strange.jsonl, line 2)"),
        (["mine.jsonl", "--diagnosis", "empty.lost"], "the diagnosis of mine belongs to other samples: it has 0"),
        ([*BOTH[:3], "--against-diagnosis", "mine.lost"], "the diagnosis of other belongs to other predictions"),
    ],
)
def test_a_user_error_is_one_line_and_writes_no_page(run, words, says):
    Path("link.html").symlink_to("other.jsonl")
    lines = Path("other.jsonl").read_text().splitlines(keepends=True)
    Path("less.jsonl").write_text("".join(lines[1:]))
    Path("strange.jsonl").write_text("".join([lines[0], replace(OTHERS[1], id="x").to_line() + "\n", *lines[2:]]))
    Path("empty.lost").touch()
    before = contents()
    out = [] if "--out" in words else ["--out", "page.html"]
    code, _, err = run("report", "set", *words, "--profile", "rela", "--draws", 10, *out)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    assert contents() == before


def test_points_far_outside_the_image_are_valid(run):
    prompts = (Prompt(Box(-1e300, 0, 8, 10), (Point(1e300, -5),)),)
    said = (replace(PREDICTIONS[0], prompts=prompts, point_answers=(PointAnswer(0, 1e300, 5, 0.1),)), *PREDICTIONS[1:])
    Path("far.jsonl").write_text("".join(f"{one.to_line()}\n" for one in said))
    words = ["far.jsonl", "--profile", "rela", "--draws", 10, "--out", "page.html"]
    assert run("report", "set", *words)[0] == 0
    assert len(picture_sizes(Path("page.html").read_text())) > 0
    assert (
        run("diagnose", "set", "far.jsonl", "--profile", "rela", "--segmenter", "grabcut", "--out", "d.jsonl")[0] == 0
    )


def test_runs_with_equal_names_are_shown_with_their_paths(run):
    Path("b").mkdir()
    Path("other.jsonl").rename("b/mine.jsonl")
    words = ["report", "set", "mine.jsonl", "--against", "b/mine.jsonl", "--profile", "rela", "--draws", 10]
    assert run(*words, "--out", "page.html")[0] == 0
    assert Page(Path("page.html").read_text()).text("h1") == ["set: mine.jsonl and b/mine.jsonl"]
