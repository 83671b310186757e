"""Ends of a training before its last step: an interrupt that waits for a checkpoint, and memory that runs out.

Knows nothing of models and rows.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from sam4mllm.errors import UserError

LESS_MEMORY = (
    "halve training.batch and double training.accumulate, lower rows.per_image, set training.gradient_checkpointing to "
    "true, or load the base in 4 bits (training.quantize: 4bit)"
)


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


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turns a block that runs out of memory into a `UserError` that says what needs less.

    Raises:
        UserError: for torch's errors about memory; others pass.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory on the device: {LESS_MEMORY}; checkpoints are kept") from error
    except RuntimeError as error:  # the CPU's allocator has no error of its own
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise UserError(f"out of memory: {LESS_MEMORY}; checkpoints are kept") from error
