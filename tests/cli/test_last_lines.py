"""The last lines of a command: what it did, and the command that usually follows."""

import json
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.cli.terminal import finish, option
from sam4mllm.data.samples import Sample, write_samples
from sam4mllm.geometry.rle import Rle
from tests.cli.test_cli import photo, replay, run, samples  # noqa: F401  fixtures
from tests.running import check_next_commands

GRABCUT = ["--segmenter", "grabcut"]


def last_lines(stderr: str, count: int = 2) -> list[str]:
    """The last lines, without the progress bar before them."""
    return [line.rsplit("\r", 1)[-1] for line in stderr.splitlines()[-count:]]


@pytest.fixture
def pair(tmp_path, photo) -> Path:  # noqa: F811
    """Two samples of an image that exists, the second without a target."""
    mask = np.zeros((40, 60), bool)
    mask[12:36, 12:36] = True
    rows = [("photo-cup", (Rle.from_mask(mask),)), ("photo-dog", ())]
    write_samples([Sample(key, photo.name, 60, 40, "cup", masks) for key, masks in rows], tmp_path / "pair", tmp_path)
    return Path("pair")


@pytest.fixture
def predicted(run, pair, replay) -> Path:  # noqa: F811
    assert run("predict", pair, "--mllm", replay, *GRABCUT, "--out", "p.jsonl")[0] == 0
    return Path("p.jsonl")


def test_predict_counts_outcomes_and_suggests_score(run, samples, replay):  # noqa: F811
    code, out, err = run("predict", samples, "--mllm", replay, *GRABCUT, "--out", "p.jsonl")
    assert (code, out) == (0, "")
    assert last_lines(err) == [
        "3 predictions: 1 with a mask, 1 without a target, 0 unreadable, 1 failed; written to p.jsonl",
        f"next: sam4mllm score {samples} p.jsonl --profile rela",
    ]


def test_unreadable_replies_are_counted_and_the_command_succeeds(run, pair):  # noqa: F811
    lines = [json.dumps({"id": name, "replies": ["I cannot tell"]}) + "\n" for name in ("photo-cup", "photo-dog")]
    Path("odd.jsonl").write_text("".join(lines))
    code, _, err = run("predict", pair, "--mllm", "replay:odd.jsonl", *GRABCUT, "--out", "p.jsonl")
    assert code == 0
    counts = "2 predictions: 0 with a mask, 0 without a target, 2 unreadable, 0 failed"
    assert last_lines(err)[0] == f"{counts}; written to p.jsonl"
    code, _, err = run("infer", "photo.png", "--phrase", "cup", "--mllm", "replay:odd.jsonl", *GRABCUT, "--out", "out")
    counts = "1 prediction: 0 with a mask, 0 without a target, 1 unreadable, 0 failed"
    assert (code, last_lines(err, 1)) == (0, [f"{counts}; overlays, masks and records are in out"])


@pytest.mark.parametrize(("shard", "count"), [("1/2", "2 predictions"), ("2/2", "0 predictions")])
def test_a_shard_names_its_own_file_and_no_next_command(run, pair, replay, shard, count):  # noqa: F811
    words = ["--mllm", replay, *GRABCUT, "--out", "p.jsonl", "--batch-size", 1, "--shard", shard]
    code, _, err = run("predict", pair, *words)
    assert code == 0
    [line] = last_lines(err, 1)
    assert line.startswith(f"{count}: ")
    assert line.endswith(f"; written to p-{shard.replace('/', '-of-')}.jsonl")
    assert "next: " not in err


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["score", "pair", "p.jsonl"], ["next: sam4mllm diagnose pair p.jsonl --profile rela --out p-diagnosis.jsonl"]),
        (
            ["score", "pair", "p.jsonl", "--profile", "lavt"],
            ["next: sam4mllm diagnose pair p.jsonl --profile lavt --out p-diagnosis.jsonl"],
        ),
        (["score", "pair", "p.jsonl", "--json"], []),
        (
            ["diagnose", "pair", "p.jsonl", "--out", "d.jsonl", "--images", "."],
            [
                "the lost IoU of 2 samples is in d.jsonl",
                "next: sam4mllm report pair p.jsonl --profile rela --diagnosis d.jsonl --images . --out d.html",
            ],
        ),
        (["report", "pair", "p.jsonl", "--out", "page.html"], ["the page of 2 samples is in page.html"]),
        (
            ["targets", "pair", "--out", "targets", *GRABCUT, "--candidates", 2],
            [
                "targets are in targets",
                "next: sam4mllm data preview pair --targets targets --segmenter grabcut",
            ],
        ),
        (["recipe"], ["next: sam4mllm finetune lora --plan"]),
        (["recipe", "lora"], []),
        (["data", "all", "--root", "missing", "--out", "missing"], []),
        (
            ["data", "download", "refcoco", "--root", "raw"],
            ["next: sam4mllm data download refcoco --root raw --yes"],
        ),
    ],
    ids=lambda words: " ".join(map(str, words[:3])),
)
def test_a_command_ends_with_what_it_did_and_the_next_command(run, predicted, words, lines):  # noqa: F811
    code, _, err = run(*words)
    assert code == 0, err
    assert [line for line in last_lines(err, len(lines) or 1) if "\x1b" not in line and not line.isspace()] == lines


def test_score_suggests_a_segmenter_for_predictions_without_settings(run, predicted):  # noqa: F811
    Path("p.settings.json").unlink()
    code, _, err = run("score", "pair", predicted)
    command = "diagnose pair p.jsonl --profile rela --segmenter SEGMENTER --out p-diagnosis.jsonl"
    assert (code, err) == (0, f"next: sam4mllm {command}\n")


def test_the_next_command_of_each_stage_runs(run, pair, replay):  # noqa: F811
    code, _, err = run("predict", pair, "--mllm", replay, *GRABCUT, "--out", "p.jsonl")
    for command in ("score", "diagnose", "report"):
        program, *words = last_lines(err, 1)[0].removeprefix("next: ").split()
        assert (code, program, words[0]) == (0, "sam4mllm", command)
        code, _, err = run(*words)
    assert code == 0
    assert Path("p-diagnosis.html").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "set", "--mllm", "replay:empty.jsonl", *GRABCUT, "--images", "missing", "--out", "q.jsonl"],
        ["score", "pair", "missing.jsonl"],
        ["diagnose", "missing", "p.jsonl", "--out", "d.jsonl"],
        ["report", "pair", "missing.jsonl", "--out", "page.html"],
        ["targets", "pair", "--out", "targets", "--segmenter", "grabcat"],
        ["infer", "missing.png", "--phrase", "cup", "--mllm", "a/b", *GRABCUT, "--json"],
        ["data", "refcoco", "--root", "missing"],
        ["eval", "res", "--samples", "missing", "--predictions", "p", "--predict", "--mllm", "a/b", *GRABCUT],
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_fails_ends_with_the_error(run, predicted, samples, words):  # noqa: F811
    Path("empty.jsonl").touch()
    code, _, err = run(*words)
    assert code == 2
    assert last_lines(err, 1)[0].startswith("error: ")
    assert "next: " not in err
    assert "prediction: " not in err
    assert "predictions: " not in err


@pytest.mark.parametrize(
    ("summary", "words", "expected"),
    [
        ("", [], ""),
        ("done", [], "done\n"),
        ("", ["score", Path("a b"), "p.jsonl"], "next: sam4mllm score 'a b' p.jsonl\n"),
        ("done", ["recipe", *option("--images", None), *option("--mllm", "")], "done\nnext: sam4mllm recipe\n"),
    ],
)
def test_the_last_lines_go_to_standard_error_and_quote_their_words(capsys, summary, words, expected):
    finish(summary, *words)
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize("line", ["score a b --colour red", "score a", "scroe a b", "predict a --out None"])
def test_a_next_command_that_does_not_parse_fails_a_test(line):
    with pytest.raises(Exception, match=r"."):
        check_next_commands(f"next: sam4mllm {line}\n")
