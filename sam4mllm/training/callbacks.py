"""Trainer callbacks: progress, validation, Ctrl-C, and weights that are NaN or Inf.

Lines on standard error:

    step 200 of 3000 | loss 0.412 | 0:41:10 left
    step 200 of 3000 | validation: cIoU 0.613, box 0.750, unreadable 0.000
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from types import FrameType
from typing import Any, TypeAlias

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch.distributed.tensor import DTensor
from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback

from sam4mllm.errors import UserError
from sam4mllm.training.checkpoints import BEST_BY, MEASURED_BY, VALIDATION

log = logging.getLogger(__name__)

ScoreFn: TypeAlias = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True)
class Scoring:
    """When and how the validation samples are scored.

    Attributes:
        score: returns the scores of a step, such as ``cIoU``; the first process calls it with the model in evaluation
            mode.
        every: steps between validations; the last step is always validated.
        measured_by: samples, segmenter, prompter and options; scores are compared only if these are equal.
    """

    score: ScoreFn
    every: int = 500
    measured_by: Mapping[str, Any] | None = None


class Progress(ProgressCallback):  # type: ignore[misc]  # transformers is not typed
    """Shows the Trainer's progress bar on a terminal, and writes each loss and validation to standard error.

    Args:
        hidden: hide the bar even on a terminal.
    """

    def __init__(self, hidden: bool = False) -> None:
        super().__init__()
        self.hidden = hidden

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Start the bar and the clock at the step that the run starts or resumes from."""
        hidden = True if self.hidden or not state.is_world_process_zero else None  # None: hidden unless on a terminal
        self.training_bar = tqdm(
            total=state.max_steps, initial=state.global_step, dynamic_ncols=True, unit="step", disable=hidden
        )
        self.current_step = self.first_step = state.global_step
        self.started = perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Advance the bar, and log the loss of the last step."""
        super().on_step_end(args, state, control, **options)
        control.should_log |= state.global_step == state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:  # noqa: ARG002
        """Print the loss or the validation scores; other entries of the log are the Trainer's summary."""
        logs = logs or {}
        scores = {name.removeprefix(VALIDATION): value for name, value in logs.items() if name.startswith(VALIDATION)}
        if scores:
            text = "validation: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        elif "loss" in logs:
            text = f"loss {logs['loss']:.3f} | {self._time_left(state)} left"
        else:
            return
        if state.is_world_process_zero:
            tqdm.write(f"step {state.global_step} of {state.max_steps} | {text}", file=sys.stderr)

    def close(self) -> None:
        """Remove the bar if the training ended with an error."""
        if self.training_bar is not None:
            self.training_bar.close()

    def _time_left(self, state: Any) -> timedelta:
        """The estimated time for the remaining steps, from the mean time per step of this process."""
        per_step = (perf_counter() - self.started) / max(state.global_step - self.first_step, 1)
        return timedelta(seconds=round(per_step * (state.max_steps - state.global_step)))


class ValidationRounds(TrainerCallback):  # type: ignore[misc]
    """Scores the validation samples at intervals and after the last step, and saves a checkpoint of each new best.

    The Trainer's own evaluation is not used. It needs a data set and a loss, and its `metric_for_best_model` compares
    scores even if they were measured with different samples or prompters.

    Args:
        scoring: the score function, its interval and its settings.
        log: receives the scores, without NaN; their names have the prefix `VALIDATION`.
    """

    def __init__(self, scoring: Scoring, log: Callable[[dict[str, float]], None]) -> None:
        self.scoring, self.log = scoring, log

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Warn if earlier validations of a resumed run used other samples, or another prompter or segmenter."""
        previous = [entry.get(MEASURED_BY) for entry in state.log_history if BEST_BY in entry]
        if state.is_world_process_zero and previous and previous[-1] != self.scoring.measured_by:
            old, new = previous[-1] or {}, self.scoring.measured_by or {}
            changed = ", ".join(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))
            log.warning(
                "Validation settings changed (%s): earlier scores are ignored for the best step.",
                changed,
            )

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Validate if this is a multiple of the interval or the last step."""
        if state.global_step % self.scoring.every and state.global_step != state.max_steps:
            return
        entries = [entry for entry in state.log_history if entry.get(MEASURED_BY) == self.scoring.measured_by]
        best = max((entry[BEST_BY] for entry in entries if BEST_BY in entry), default=-math.inf)
        model.eval()
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
            scores = [self.scoring.score(state.global_step) if state.is_world_process_zero else {}]
            broadcast_object_list(scores)
        figures = {VALIDATION + name: value for name, value in scores[0].items() if not math.isnan(value)}
        should_log = control.should_log
        self.log(dict(figures))  # a copy, because the trainer adds entries
        # not passed to `log`, because reporting integrations accept only numbers
        state.log_history[-1][MEASURED_BY] = self.scoring.measured_by
        control.should_log = should_log  # `log` resets it as if the loss of this step had been logged
        model.train()
        if figures.get(BEST_BY, -math.inf) > best:
            control.should_save = True


class Stop(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Saves a checkpoint and stops after the current step if Ctrl-C is pressed; a second Ctrl-C stops immediately.

    Attributes:
        requested: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def handle_interrupts(self) -> Iterator[None]:
        """Handle Ctrl-C while the block runs. Only the main thread receives it, so other threads do nothing here."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Save and stop in all processes if any of them was interrupted."""
        self.requested = any(gather_object([self.requested]))
        if self.requested:
            control.should_save = control.should_training_stop = True

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002  the system's
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class StopOnDivergence(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Stops the training when a weight is NaN or Inf, before the weights are validated or saved."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ARG002
        """Check the weights; with AdamW a NaN gradient makes them NaN in the same step.

        Raises:
            UserError: if a weight is not finite. All processes raise it, even if only one of them holds that weight.
        """
        if not all(gather_object([is_finite(model)])):
            raise UserError(
                f"training diverged at step {state.global_step}: weights are NaN or Inf; the checkpoint was not saved: "
                f"set a lower training.learning_rate than {args.learning_rate:g}, or more training.warmup_steps, and "
                "a new out"
            )


def is_finite(model: Any) -> bool:
    """Whether all trained weights that this process holds are finite."""
    trained = [_local(parameter.detach()) for parameter in model.parameters() if parameter.requires_grad]
    return bool(torch.nn.utils.get_total_norm(trained, float("inf")).isfinite())


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's shard of a tensor; a maximum over the shards of all processes would ignore NaN."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
