"""The benchmarks, as far as that takes no time: they lean on each other, and how kills are counted and compared."""

import ast
import importlib.util
import random
import sys
from pathlib import Path

import pytest

from benchmarks.killing import TRIES, check_same, is_killed, land, whole_run
from tests.paths import ROOT

FILES = sorted((ROOT / "benchmarks").glob("*.py"))
SLEEP = [sys.executable, "-c", "import time; time.sleep(20)"]


def defined(file: Path) -> set[str]:
    """The names that a file gives to others."""
    tree = ast.parse(file.read_text())
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    plain = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    typed = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return named | {target.id for target in [*plain, *typed] if isinstance(target, ast.Name)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_takes_of_another_is_there(file):
    others = {each.stem: each for each in FILES}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in others:
            assert {alias.name for alias in node.names} <= defined(others[node.module])
        elif isinstance(node, ast.ImportFrom):
            assert importlib.util.find_spec(str(node.module)), f"{node.module} is neither here nor installed"


@pytest.mark.parametrize(
    ("results", "attempts", "landed"),
    [
        pytest.param(["a", "b", "c"], 3, True, id="each lands"),
        pytest.param([None, "a", None, "b", "c"], 5, True, id="some are done before"),
        pytest.param([None] * 20, 3 * TRIES, False, id="none lands"),
        pytest.param(["a", "b", *[None] * 20], 3 * TRIES, False, id="too few land"),
    ],
)
def test_as_many_kills_land_as_are_asked_for_or_it_fails(capsys, results, attempts, landed):
    seen = []

    def attempt(so_far: int) -> str | None:
        seen.append(so_far)
        return results[len(seen) - 1]

    if landed:
        land(3, attempt)
    else:
        with pytest.raises(SystemExit, match=f"{sum(map(bool, results))} of 3 kills landed"):
            land(3, attempt)
    assert len(seen) == attempts
    assert capsys.readouterr().out.splitlines() == [f"kill {n} {one}" for n, one in enumerate(filter(None, results), 1)]


def test_a_command_is_killed_or_was_done_before():
    assert is_killed(SLEEP, 0.01)
    assert not is_killed([sys.executable, "-c", ""], 0.0, started=lambda: False)


@pytest.mark.parametrize(("lines", "landed"), [(40, 2), (0, 0)], ids=["one that works", "one that only starts"])
def test_predictions_are_killed_within_their_work(tmp_path, monkeypatch, capsys, lines, landed):
    """The command takes its time to start; a kill before its first line shows nothing."""
    monkeypatch.syspath_prepend(str(FILES[0].parent))
    from killed_predict import disturb

    work = "import sys, time; out = open(sys.argv[1], 'ab', buffering=0); time.sleep(0.2)"
    work += f"\nfor _ in range({lines}): time.sleep(0.02); out.write(b'%d\\n' % time.monotonic_ns())"
    words = [sys.executable, "-c", work, str(tmp_path / "p.jsonl")]
    if landed:
        disturb(words, tmp_path / "p.jsonl", landed, 0.0, random.Random(0))
    else:
        with pytest.raises(SystemExit, match="0 of 2 kills landed"):
            disturb(words, tmp_path / "p.jsonl", 2, 0.0, random.Random(0))
    results = capsys.readouterr().out.splitlines()
    assert len(results) == landed
    assert not any(": 0 more" in line for line in results)


def test_a_command_that_fails_is_told_with_its_reason():
    assert whole_run([sys.executable, "-c", ""]) > 0
    with pytest.raises(SystemExit, match="failed: no such thing"):
        whole_run([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"a": b"two"}, "1 files: a", id="a byte"),
        pytest.param({".b": b""}, "1 files: .b", id="a hidden file more"),
        pytest.param({"a": None}, "1 files: a", id="a file less"),
    ],
)
def test_any_difference_of_two_folders_fails(tmp_path, change, differs):
    for name, files in (("one", {"a": b"one"}), ("two", {"a": b"one"} | change)):
        (tmp_path / name).mkdir()
        for file, data in files.items():
            if data is not None:
                (tmp_path / name / file).write_bytes(data)
    if differs is None:
        check_same(tmp_path / "one", tmp_path / "two")
    else:
        with pytest.raises(SystemExit, match=f"OTHER BYTES in {differs}"):
            check_same(tmp_path / "one", tmp_path / "two")
