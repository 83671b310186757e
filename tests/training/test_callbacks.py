"""What a training says while it runs, and what it says of samples that are held out."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from sam4mllm.training import callbacks
from sam4mllm.training.callbacks import BEST_OF, HeldOutRounds, Lines, Pace
from sam4mllm.training.checkpoints import ASKED

BATCH = {"labels": torch.tensor([[-100, 3, 0, -100], [5, -100, -100, 7]])}


class Model(torch.nn.Module):
    """Takes anything."""

    def forward(self, **inputs):
        return None


@pytest.fixture
def clock(monkeypatch):
    """The seconds that pass, by hand."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(callbacks, "perf_counter", lambda: now.seconds)
    return now


def test_the_pace_counts_labelled_tokens_and_leaves_pauses_out(clock):
    pace, model = Pace(), Model()
    with pace.counting(model):
        model(**BATCH)
        model(input_ids=BATCH["labels"])
    model(**BATCH)
    clock.seconds += 2
    with pace.paused():
        clock.seconds += 50
    clock.seconds += 3
    pace.tick()
    assert (pace.tokens, pace.seconds) == (4, 5.0)


def test_a_log_is_a_plain_line_where_there_is_no_terminal(clock):
    pace, out = Pace(), io.StringIO()
    lines = Lines(pace, Console(file=out, soft_wrap=True, highlight=False))
    state = SimpleNamespace(global_step=2, max_steps=12, is_world_process_zero=True)
    model = Model()
    with lines.shown(), pace.counting(model):
        lines.on_train_begin(None, state, None)
        for _ in range(2):
            model(**BATCH)
            clock.seconds += 4
            state.global_step += 1
            lines.on_step_end(None, state, None)
        lines.on_log(None, state, None, logs={"loss": 0.41234, "grad_norm": 1.0})
        lines.on_log(None, state, None, logs={BEST_OF: 0.5, "held_out_box": 0.25})
        lines.on_log(None, state, None, logs={"train_runtime": 3.0})
    assert out.getvalue().splitlines() == [
        "step 4 of 12 | loss 0.412 | 1 supervised tokens/s | 0:00:32 left",
        "step 4 of 12 | held out: cIoU 0.500, box 0.250",
    ]


def test_the_pace_of_a_line_is_that_since_the_last_one(clock):
    pace, out = Pace(), io.StringIO()
    lines = Lines(pace, Console(file=out, soft_wrap=True))
    state = SimpleNamespace(global_step=0, max_steps=2, is_world_process_zero=True)
    lines.on_train_begin(None, state, None)
    model = Model()
    for batches in (1, 5):
        with pace.counting(model):
            for _ in range(batches):
                model(**BATCH)
        clock.seconds += 2
        state.global_step += 1
        lines.on_step_end(None, state, None)
        lines.on_log(None, state, None, logs={"loss": 1.0})
    assert [line.split(" | ")[2] for line in out.getvalue().splitlines()] == [
        "2 supervised tokens/s",
        "10 supervised tokens/s",
    ]


def test_a_terminal_has_a_bar():
    out = io.StringIO()
    lines = Lines(Pace(), Console(file=out, force_terminal=True, width=80))
    state = SimpleNamespace(global_step=1, max_steps=3, is_world_process_zero=True)
    with lines.shown():
        lines.on_train_begin(None, state, None)
    assert "1/3" in out.getvalue()


def rounds(figures, every=2, history=(), asked=None):
    """The steps of a training of five at which it was looked, logged and saved."""
    looked, logged, saved = [], [], []
    modes = []
    model = SimpleNamespace(eval=lambda: modes.append("eval"), train=lambda: modes.append("train"))
    state = SimpleNamespace(global_step=0, max_steps=5, log_history=[*history], is_world_process_zero=True)
    args = SimpleNamespace(device=torch.device("cpu"), bf16=False)

    def watch(step):
        looked.append(step)
        assert modes[-1] == "eval"
        return {"cIoU": next(figures), "box": float("nan")}

    def log(entries):
        logged.append(entries)
        state.log_history.append({**entries, "step": state.global_step})
        control.should_log = False  # as the trainer's own

    callback = HeldOutRounds(watch, every, Pace(), log, asked)
    callback.on_train_begin(args, state, None)
    for state.global_step in range(1, 6):
        control = SimpleNamespace(should_save=False, should_log=True)
        callback.on_step_end(args, state, control, model)
        assert control.should_log, "the step's own log is not lost"
        saved += [state.global_step] if control.should_save else []
    assert set(modes[1::2]) == {"train"}
    assert [entry[ASKED] for entry in state.log_history[len(history) :]] == [asked] * len(looked)
    return looked, logged, saved


def test_it_is_looked_every_so_many_steps_and_after_the_last_and_a_best_is_saved():
    looked, logged, saved = rounds(iter([0.3, 0.2, 0.4]))
    assert looked == [2, 4, 5]
    assert logged == [{BEST_OF: 0.3}, {BEST_OF: 0.2}, {BEST_OF: 0.4}], "no nan"
    assert saved == [2, 5]


def test_a_figure_that_is_nan_is_no_best():
    assert rounds(iter([float("nan")] * 3))[2] == []


@pytest.mark.parametrize(
    ("before", "saved", "says"),
    [
        pytest.param({"segmenter": "a", "count": 2}, [5], "", id="the same"),
        pytest.param({"segmenter": "b", "count": 2}, [2, 5], "than before (segmenter): the best", id="another"),
        pytest.param(None, [2, 5], "than before (count, segmenter): the best", id="not known"),
    ],
)
def test_figures_that_were_asked_otherwise_are_not_beaten_and_it_is_said(before, saved, says, caplog):
    history = [{BEST_OF: 0.35, "step": 0} | ({} if before is None else {ASKED: before})]
    assert rounds(iter([0.3, 0.2, 0.4]), history=history, asked={"segmenter": "a", "count": 2})[2] == saved
    assert says in caplog.text
    assert bool(says) is bool(caplog.text)
