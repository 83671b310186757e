"""What is seen of a training while it runs: loss, pace and time left, and figures of samples that are held out.

Knows nothing of models, rows and samples: held-out figures come from a function.

    step 200 of 3000 | loss 0.412 | 1840 supervised tokens/s | 0:41:10 left
    step 200 of 3000 | held out: cIoU 0.613, box 0.750, unreadable 0.000
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from time import perf_counter
from types import FrameType
from typing import Any, TypeAlias

import torch
from accelerate.utils import broadcast_object_list, gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from sam4mllm.errors import UserError
from sam4mllm.training.checkpoints import ASKED

log = logging.getLogger(__name__)

Watch: TypeAlias = Callable[[int], Mapping[str, float]]
HELD_OUT = "held_out_"
BEST_OF = HELD_OUT + "cIoU"
"""The figure in the trainer's log by which the best checkpoint is chosen."""


class Pace:
    """Counts tokens and seconds of this process; time that is paused does not count."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, perf_counter()
        self._tokens: Tensor | int = 0

    @property
    def tokens(self) -> int:
        """How many were learned from."""
        return int(self._tokens)

    @contextmanager
    def counting(self, model: nn.Module) -> Iterator[None]:
        """Counts what the model is fed while the block runs, wherever it was made."""
        hook = model.register_forward_pre_hook(self._fed, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def begin(self) -> None:
        """Count from here on."""
        self._tokens, self.seconds, self._since = 0, 0.0, perf_counter()

    def _fed(self, model: nn.Module, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:  # noqa: ARG002  torch's
        if "labels" in inputs:  # held-out samples are asked without
            self._tokens = self._tokens + (inputs["labels"] >= 0).sum()  # a tensor, for which no device is waited

    def tick(self) -> None:
        """Add the time since the last tick."""
        now = perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the block's time out."""
        self.tick()
        yield
        self._since = perf_counter()


class Lines(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Says loss, pace and time left at every log: a bar on a terminal, plain lines elsewhere; on standard error.

    Args:
        pace: of the rows that are fed.
        console: where to write; standard error by default.
    """

    def __init__(self, pace: Pace, console: Console | None = None) -> None:
        self.pace = pace
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(TextColumn("step"), BarColumn(), MofNCompleteColumn(), console=self.console)
        self.task = self.bar.add_task("", total=None)
        self.begun = 0
        self.told = (0, 0.0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Has the bar on the terminal, if there is one, while the block runs."""
        with self.bar if self.console.is_terminal else nullcontext():
            yield

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Begin to count; a run that goes on begins where it was."""
        self.pace.begin()
        self.begun = state.global_step
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Advance the bar."""
        self.pace.tick()
        self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: Any,  # noqa: ARG002
        state: Any,
        control: Any,  # noqa: ARG002
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Say what the trainer logs of a step, and what was held out; other entries are its summary."""
        logs = logs or {}
        held_out = {name.removeprefix(HELD_OUT): value for name, value in logs.items() if name.startswith(HELD_OUT)}
        if not state.is_world_process_zero:
            return
        where = f"step {state.global_step} of {state.max_steps}"
        if held_out:
            said = ", ".join(f"{name} {value:.3f}" for name, value in held_out.items())
            self.console.print(f"{where} | held out: {said}")
        elif "loss" in logs:
            self.console.print(f"{where} | loss {logs['loss']:.3f} | {self._rate(state)}")

    def _rate(self, state: Any) -> str:
        """The pace since the last line, and the time left at the pace of the whole run."""
        now = self.pace.tokens, self.pace.seconds
        tokens, seconds = now[0] - self.told[0], now[1] - self.told[1]
        self.told = now
        left = self.pace.seconds / max(state.global_step - self.begun, 1) * (state.max_steps - state.global_step)
        return f"{tokens / max(seconds, 1e-9):.0f} supervised tokens/s | {timedelta(seconds=round(left))} left"


class HeldOutRounds(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Looks at held-out samples every so many steps and after the last, and has the best step saved.

    Args:
        watch: a step to its figures; it is called in evaluation mode, by the first process of several.
        every: steps between.
        pace: paused meanwhile.
        log: takes the figures, their names beginning with `HELD_OUT`; those that are nan are left out.
        asked: how the samples are asked; a step is the best among those at which they were asked so.
    """

    def __init__(
        self,
        watch: Watch,
        every: int,
        pace: Pace,
        log: Callable[[dict[str, float]], None],
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.watch, self.every, self.pace, self.log, self.asked = watch, every, pace, log, asked

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Say so, where a run goes on and the samples were asked otherwise before."""
        before = [entry.get(ASKED) for entry in state.log_history if BEST_OF in entry]
        if state.is_world_process_zero and before and before[-1] != self.asked:
            old, new = before[-1] or {}, self.asked or {}
            other = ", ".join(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))
            log.warning(
                "Held-out samples are asked otherwise than before (%s): the best step is one from here on.", other
            )

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Look, where it is time."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        alike = (entry for entry in state.log_history if BEST_OF in entry and entry.get(ASKED) == self.asked)
        best = max((entry[BEST_OF] for entry in alike), default=-math.inf)
        model.eval()
        with self.pace.paused(), torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
            found = [self.watch(state.global_step) if state.is_world_process_zero else {}]
            broadcast_object_list(found)
        figures = {HELD_OUT + name: value for name, value in found[0].items()}
        figures = {name: value for name, value in figures.items() if not math.isnan(value)}
        due = control.should_log
        self.log(dict(figures))  # the trainer adds to them
        state.log_history[-1][ASKED] = self.asked  # only here: reports take no words
        control.should_log = due  # and takes this for the step's own log
        model.train()
        if figures.get(BEST_OF, -math.inf) > best:
            control.should_save = True


class Stop(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Ends the training with a checkpoint after the step in which Ctrl-C was pressed; a second one ends it at once.

    Attributes:
        asked: whether it was pressed.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes interrupts while the block runs; outside the main thread, where none arrive, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Where a step is done, and can be saved; by all processes, whichever was asked."""
        self.asked = any(gather_object([self.asked]))
        if self.asked:
            control.should_save = control.should_training_stop = True

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002  the system's
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Diverged(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Ends the training after a step that left weights which are no numbers, before they are asked or saved."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ARG002
        """A gradient that is no number makes the weights so, by AdamW, within the same step.

        Raises:
            UserError: in all processes, whichever holds them.
        """
        if not all(gather_object([finite(model)])):
            raise UserError(
                f"the training diverged in step {state.global_step}: its weights are no numbers any more, and are not "
                f"saved; give a lower training.learning_rate than {args.learning_rate:g}, or a longer training.warmup, "
                "and another out"
            )


def finite(model: Any) -> bool:
    """Whether all weights that are trained, and held by this process, are numbers."""
    trained = [_here(parameter.detach()) for parameter in model.parameters() if parameter.requires_grad]
    return bool(torch.nn.utils.get_total_norm(trained, float("inf")).isfinite())


def _here(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor this process holds: a largest value over all processes passes over what is no number."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
