"""Complete and incomplete checkpoints, and which of them are kept."""

from pathlib import Path

import pytest

from sam4mllm.errors import UserError
from sam4mllm.training.checkpoints import (
    MEASURED_BY,
    WHOLE,
    best_step,
    complete_checkpoints,
    is_complete,
    last_complete_checkpoint,
    prune,
    seal,
    sweep,
)


def checkpoint(folder: Path, step: int, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "deep").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"12345")
    (path / "deep" / "optimizer.pt").write_bytes(b"12")
    (path / "card.json").write_bytes(b"1")
    if sealed:
        seal(path)
    return path


@pytest.mark.parametrize(
    ("harm", "whole"),
    [
        pytest.param(lambda path: None, True, id="nothing"),
        pytest.param(lambda path: (path / "later.pt").write_text("a"), True, id="a file more"),
        pytest.param(lambda path: (path / "card.json").write_text("more"), True, id="a card that knows more"),
        pytest.param(lambda path: (path / "card.json").unlink(), True, id="no card"),
        pytest.param(lambda path: (path / WHOLE).unlink(), False, id="never sealed"),
        pytest.param(lambda path: (path / "model.safetensors").unlink(), False, id="a file less"),
        pytest.param(lambda path: (path / "deep" / "optimizer.pt").write_bytes(b"1"), False, id="cut short"),
    ],
)
def test_a_checkpoint_is_complete_if_all_files_to_resume_from_are_unchanged(tmp_path, harm, whole):
    path = checkpoint(tmp_path, 5)
    harm(path)
    assert is_complete(path) is whole
    assert list(complete_checkpoints(tmp_path)) == ([5] if whole else [])


@pytest.mark.parametrize("name", ["model.safetensors", "deep/optimizer.pt"])
def test_a_changed_last_checkpoint_is_reported_and_not_removed(tmp_path, name):
    spoilt = {step: checkpoint(tmp_path, step) for step in (2, 4)}
    for path in spoilt.values():
        (path / name).write_bytes(b"1")
    kept = checkpoint(tmp_path, 3)
    sweep(tmp_path)
    prune(tmp_path, 1, None)
    assert all(path.is_dir() for path in spoilt.values())
    with pytest.raises(UserError, match=rf"checkpoint-4 was complete, but {name} has changed since"):
        last_complete_checkpoint(tmp_path)
    spoilt[4].rename(tmp_path / "away")
    assert last_complete_checkpoint(tmp_path) == kept


def test_checkpoints_are_sorted_by_step_number(tmp_path):
    paths = {step: checkpoint(tmp_path, step) for step in (1000, 200, 30)}
    assert list(complete_checkpoints(tmp_path)) == [30, 200, 1000]
    assert last_complete_checkpoint(tmp_path) == paths[1000]
    assert last_complete_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["checkpoint-7-backup", "checkpoint-7.zip", "checkpoint-", "checkpoint-²", "old-7"])
def test_other_files_and_folders_are_not_checkpoints_and_are_not_removed(tmp_path, name):
    kept, other = checkpoint(tmp_path, 2), tmp_path / name
    checkpoint(tmp_path, 7).rename(other)
    (tmp_path / "checkpoint-6").write_text("a file")
    assert last_complete_checkpoint(tmp_path) == kept
    sweep(tmp_path)
    prune(tmp_path, 1, None)
    assert other.exists()
    assert (tmp_path / "checkpoint-6").exists()


def test_incomplete_checkpoints_are_removed_with_a_warning(tmp_path, caplog):
    kept = checkpoint(tmp_path, 2)
    half = checkpoint(tmp_path, 4, sealed=False)
    assert last_complete_checkpoint(tmp_path) == kept
    sweep(tmp_path)
    assert (kept.is_dir(), half.exists()) == (True, False)
    assert "Removed the incomplete checkpoint" in caplog.text


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, [5]),
        (2, None, [4, 5]),
        (1, 2, [2, 5]),
        (2, 5, [4, 5]),
        (9, None, [1, 2, 3, 4, 5]),
        (1, 77, [5]),
        (None, None, [1, 2, 3, 4, 5]),
    ],
)
def test_the_last_and_the_best_checkpoints_are_kept(tmp_path, keep, best, left):
    for step in range(1, 6):
        checkpoint(tmp_path, step)
    prune(tmp_path, keep, best)
    assert list(complete_checkpoints(tmp_path)) == left
    assert len(list(tmp_path.iterdir())) == len(left)


@pytest.mark.parametrize(
    ("figures", "best"),
    [([], None), ([None, None], None), ([0.2, 0.5, 0.4], 2), ([0.5, None, 0.5], 1), ([-1.0], 1)],
)
def test_the_best_step_is_the_first_with_the_highest_figure(figures, best):
    history = [
        {"step": step, "loss": 1.0} | ({} if figure is None else {"figure": figure})
        for step, figure in enumerate(figures, 1)
    ]
    assert best_step(history, "figure") == best


@pytest.mark.parametrize(
    ("asked", "best"),
    [("aaa", 1), ("aab", 3), ("abb", 2), ("aba", 1), ("-bb", 2), ("--b", 3), ("---", 1)],
)
def test_the_best_step_is_among_those_measured_like_the_last_one(asked, best):
    history = [
        {"step": step, "figure": 1 / step} | ({} if how == "-" else {MEASURED_BY: {"segmenter": how}})
        for step, how in enumerate(asked, 1)
    ]
    assert best_step([*history, {"step": 4, "loss": 1.0}], "figure") == best
