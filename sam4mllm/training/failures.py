"""Ends of a training before its last step: interrupts that wait for a checkpoint, weights that are no numbers any more,
memory or a disk that runs out. Knows nothing of models and rows.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from sam4mllm.training.checkpoints import whole_ones
from sam4mllm.errors import UserError

LESS_MEMORY = (
    "halve training.batch and double training.accumulate, or set training.gradient_checkpointing to true, and go on "
    "from the checkpoints, which are kept; into another out, lower rows.per_image or load the base in 4 bits "
    "(training.quantize: 4bit)"
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


@contextmanager
def steps_kept(trainer: Any) -> Iterator[None]:
    """Saves the steps that are done where the block ends in a `UserError`, as of rows, which are read between steps.

    Not where memory runs out, for that may be in the middle of a step; and by one process alone: of several, the others
    do not know of the error, and a save waits for all of them.
    """
    try:
        yield
    except UserError:
        step = trainer.state.global_step
        unsaved = step > 0 and step not in whole_ones(Path(trainer.args.output_dir))
        if unsaved and trainer.args.world_size == 1 and finite(trainer.model):
            trainer._save_checkpoint(trainer.model, trial=None)  # for which it has no public name
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        raise


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a block that runs out of memory into a `UserError` that says what needs less.

    Raises:
        UserError: for errors about memory, torch's and Python's; others pass.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory on the device: {LESS_MEMORY}") from error
    except MemoryError as error:
        raise UserError(f"out of memory: {LESS_MEMORY}") from error
    except RuntimeError as error:  # the CPU's allocator has no error of its own
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise UserError(f"out of memory: {LESS_MEMORY}") from error


@contextmanager
def enough_disk(folder: Path) -> Iterator[None]:
    """Turns a block that fills the disk into a `UserError` that names the folder which it writes to.

    Raises:
        UserError: where the system has no room for a file, as Python, safetensors and torch say it; other errors pass.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _no_room(error)
        if reason is None:
            raise
        raise UserError(
            f"cannot write into {folder}: {reason}; make room and give the same command, which goes on from the last "
            "whole checkpoint"
        ) from error


def _no_room(error: Exception) -> str | None:
    """What the system says where there is no room, else None."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in FULL else None
    number = re.search(r"\(os error (\d+)\)", str(error))  # safetensors'
    if number:
        return os.strerror(int(number[1])) if int(number[1]) in FULL else None
    # torch's writer says where it stood and not why
    written = "inline_container" in str(error) and re.search("unexpected pos|PytorchStreamWriter", str(error))
    return "a file could not be written to its end" if written else None
