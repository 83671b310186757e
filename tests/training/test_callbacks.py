"""What a training prints while it runs: the loss, and the scores of the validation samples."""

import sys
from types import SimpleNamespace

import pytest
import torch

from sam4mllm.training import callbacks
from sam4mllm.training.callbacks import Progress, ValidationRounds
from sam4mllm.training.checkpoints import BEST_BY, MEASURED_BY, OLD_VALIDATION, SealCheckpoints


@pytest.fixture
def clock(monkeypatch):
    """The seconds that pass, by hand."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(callbacks, "perf_counter", lambda: now.seconds)
    return now


def state_at(step: int, of: int) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=of, is_world_process_zero=True, log_history=[])


def test_a_log_is_a_plain_line_without_a_terminal(clock, capsys):
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


@pytest.mark.parametrize(("step", "logged"), [(1, False), (2, False), (3, True)])
def test_the_last_loss_is_logged(step, logged):
    progress, state, control = Progress(), state_at(step, 3), SimpleNamespace(should_log=False)
    progress.on_train_begin(None, state, control)
    progress.on_step_end(None, state, control)
    assert control.should_log is logged


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


def rounds(figures, every=2, history=(), measured_by=None):
    """The steps of a training of five at which it was scored, logged and saved."""
    scored, logged, saved = [], [], []
    modes = []
    model = SimpleNamespace(eval=lambda: modes.append("eval"), train=lambda: modes.append("train"))
    state = SimpleNamespace(global_step=0, max_steps=5, log_history=[*history], is_world_process_zero=True)
    args = SimpleNamespace(device=torch.device("cpu"), bf16=False)

    def score(step):
        scored.append(step)
        assert modes[-1] == "eval"
        return {"cIoU": next(figures), "box": float("nan")}

    def log(entries):
        logged.append(entries)
        state.log_history.append({**entries, "step": state.global_step})
        control.should_log = False  # as the trainer's own

    callback = ValidationRounds(score, every, log, measured_by)
    callback.on_train_begin(args, state, None)
    for state.global_step in range(1, 6):
        control = SimpleNamespace(should_save=False, should_log=True)
        callback.on_step_end(args, state, control, model)
        assert control.should_log, "the step's own log is not lost"
        saved += [state.global_step] if control.should_save else []
    assert set(modes[1::2]) == {"train"}
    assert [entry[MEASURED_BY] for entry in state.log_history[len(history) :]] == [measured_by] * len(scored)
    return scored, logged, saved


def test_validation_runs_at_intervals_and_after_the_last_step_and_saves_the_best():
    scored, logged, saved = rounds(iter([0.3, 0.2, 0.4]))
    assert scored == [2, 4, 5]
    assert logged == [{BEST_BY: 0.3}, {BEST_BY: 0.2}, {BEST_BY: 0.4}], "no nan"
    assert saved == [2, 5]


def test_a_nan_score_is_never_the_best():
    assert rounds(iter([float("nan")] * 3))[2] == []


@pytest.mark.parametrize(
    ("before", "saved", "says"),
    [
        pytest.param({"segmenter": "a", "count": 2}, [5], "", id="the same"),
        pytest.param({"segmenter": "b", "count": 2}, [2, 5], "settings changed (segmenter): scores", id="another"),
        pytest.param(None, [2, 5], "settings changed (count, segmenter): scores", id="not known"),
    ],
)
def test_scores_with_other_settings_are_not_compared_and_give_a_warning(before, saved, says, caplog):
    history = [{BEST_BY: 0.35, "step": 0} | ({} if before is None else {MEASURED_BY: before})]
    assert rounds(iter([0.3, 0.2, 0.4]), history=history, measured_by={"segmenter": "a", "count": 2})[2] == saved
    assert says in caplog.text
    assert bool(says) is bool(caplog.text)
