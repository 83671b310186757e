"""Progress lines, and the validation during a training."""

import sys
from types import SimpleNamespace

import pytest
import torch

from sam4mllm.training import callbacks
from sam4mllm.training.callbacks import Progress, Scoring, ValidationRounds
from sam4mllm.training.checkpoints import BEST_BY, MEASURED_BY, OLD_VALIDATION, SealCheckpoints


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(callbacks, "perf_counter", lambda: now.seconds)
    return now


def state_at(step: int, of: int) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=of, is_world_process_zero=True, log_history=[])


def test_losses_and_scores_are_plain_lines_without_a_terminal(clock, capsys):
    progress, state, control = Progress(), state_at(2, 12), SimpleNamespace(should_log=False)
    progress.on_train_begin(None, state, control)
    for _ in range(2):
        clock.seconds += 4
        state.global_step += 1
        progress.on_step_end(None, state, control)
    progress.on_log(None, state, control, logs={"loss": 0.41234, "grad_norm": 1.0})
    progress.on_log(None, state, control, logs={BEST_BY: 0.5, "validation_box": 0.25})
    progress.on_log(None, state, control, logs={"train_runtime": 3.0})
    progress.close()
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == (
        "",
        ["step 4 of 12 | loss 0.412 | 0:00:32 left", "step 4 of 12 | validation: cIoU 0.500, box 0.250"],
    )


@pytest.mark.parametrize(("hidden", "shown"), [(False, True), (True, False)])
def test_a_terminal_has_a_bar_unless_it_is_hidden(monkeypatch, capsys, hidden, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress(hidden)
    progress.on_train_begin(None, state_at(1, 3), None)
    progress.close()
    assert ("1/3" in capsys.readouterr().err) is shown


def test_scores_that_version_0_1_logged_are_compared_too():
    state = SimpleNamespace(max_steps=5, compute_steps=lambda *_: None)
    state.log_history = [{"loss": 1.0, "step": 1}, {f"{OLD_VALIDATION}cIoU": 0.35, "step": 2}]
    SealCheckpoints(1, lambda _: None).on_train_begin(None, state, None)
    assert state.log_history == [{"loss": 1.0, "step": 1}, {BEST_BY: 0.35, "step": 2}]


def validate(scores, every=2, history=(), measured_by=None):
    """The entries that a training of five steps logs, and the steps at which it saves a checkpoint."""
    modes, saved_steps = [], []
    model = SimpleNamespace(eval=lambda: modes.append("eval"), train=lambda: modes.append("train"))
    state = SimpleNamespace(global_step=0, max_steps=5, log_history=[*history], is_world_process_zero=True)
    args = SimpleNamespace(device=torch.device("cpu"), bf16=False)

    def score(step):
        assert modes[-1] == "eval"
        return {"cIoU": scores[step], "box": float("nan")}

    def log(entries):
        state.log_history.append({**entries, "step": state.global_step})
        control.should_log = False  # as the trainer does

    callback = ValidationRounds(Scoring(score, every, measured_by), log)
    callback.on_train_begin(args, state, None)
    for state.global_step in range(1, 6):
        control = SimpleNamespace(should_save=False, should_log=True)
        callback.on_step_end(args, state, control, model)
        assert control.should_log, "the loss of the step is logged too"
        saved_steps += [state.global_step] if control.should_save else []
    assert set(modes[1::2]) == {"train"}
    return state.log_history[len(history) :], saved_steps


SCORES = {2: 0.3, 4: 0.2, 5: 0.4}


def test_validation_runs_at_intervals_and_after_the_last_step_and_saves_the_best():
    entries, saved_steps = validate(SCORES)
    expected = [{BEST_BY: score, "step": step, MEASURED_BY: None} for step, score in SCORES.items()]
    assert (entries, saved_steps) == (expected, [2, 5])  # NaN is not logged


def test_a_nan_score_is_never_the_best():
    assert validate(dict.fromkeys(SCORES, float("nan")))[1] == []


@pytest.mark.parametrize(
    ("before", "saved_steps", "warning"),
    [
        pytest.param({"segmenter": "a", "count": 2}, [5], "", id="equal"),
        pytest.param(
            {"segmenter": "b", "count": 2}, [2, 5], "settings changed (segmenter): earlier scores", id="different"
        ),
        pytest.param(None, [2, 5], "settings changed (count, segmenter): earlier scores", id="unknown"),
    ],
)
def test_scores_with_other_settings_are_not_compared_and_give_a_warning(before, saved_steps, warning, caplog):
    history = [{BEST_BY: 0.35, "step": 0} | ({} if before is None else {MEASURED_BY: before})]
    measured_by = {"segmenter": "a", "count": 2}
    entries, steps = validate(SCORES, history=history, measured_by=measured_by)
    assert {**entries[-1]} == {BEST_BY: 0.4, "step": 5, MEASURED_BY: measured_by}
    assert steps == saved_steps
    assert warning in caplog.text
    assert bool(warning) is bool(caplog.text)
