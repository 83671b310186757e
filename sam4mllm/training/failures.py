"""Failures during training: rows that cannot be made, and too little memory or disk space."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sam4mllm.errors import UserError
from sam4mllm.training.callbacks import is_finite
from sam4mllm.training.checkpoints import complete_checkpoints

MEMORY_ADVICE = (
    "to resume from the last checkpoint, halve training.per_device_train_batch_size and double "
    "training.gradient_accumulation_steps, or set training.gradient_checkpointing to true; otherwise start again in a "
    "new out with a lower rows.per_image, or with training.quantize=4bit"
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def checkpoint_on_error(trainer: Any) -> Iterator[None]:
    """Save a checkpoint if the block raises a `UserError`, such as for a row that cannot be made.

    Rows are made between steps, so the weights are consistent then. Nothing is saved if memory runs out, since that can
    happen in the middle of a step, or if there are several processes, since a save waits for all of them.
    """
    try:
        yield
    except UserError:
        step = trainer.state.global_step
        unsaved = step > 0 and step not in complete_checkpoints(Path(trainer.args.output_dir))
        if unsaved and trainer.args.world_size == 1 and is_finite(trainer.model):
            trainer._save_checkpoint(trainer.model, trial=None)  # there is no public method
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        raise


@contextmanager
def memory_errors_as_user_errors() -> Iterator[None]:
    """Turn an out-of-memory error of the block into a `UserError` that names options to reduce memory.

    Raises:
        UserError: for out-of-memory errors of torch and Python; other errors pass unchanged.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        on_device = isinstance(error, torch.OutOfMemoryError)
        # the CPU allocator has no error class
        if not (on_device or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)):
            raise
        raise UserError(f"out of memory{' on the device' if on_device else ''}: {MEMORY_ADVICE}") from error


@contextmanager
def disk_errors_as_user_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into a `UserError` that names the folder.

    Raises:
        UserError: if Python, safetensors or torch had no space for a file; other errors pass unchanged.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _disk_full_reason(error)
        if reason is None:
            raise
        raise UserError(
            f"cannot write into {folder}: {reason}; free some space and run the same command to resume from the last "
            "complete checkpoint"
        ) from error


def _disk_full_reason(error: Exception) -> str | None:
    """The system's message if the disk is full, otherwise None."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in DISK_FULL else None
    number = re.search(r"\(os error (\d+)\)", str(error))  # the format of safetensors
    if number:
        return os.strerror(int(number[1])) if int(number[1]) in DISK_FULL else None
    # torch reports the position and not the reason
    written = "inline_container" in str(error) and re.search("unexpected pos|PytorchStreamWriter", str(error))
    return "a file could not be written to its end" if written else None
