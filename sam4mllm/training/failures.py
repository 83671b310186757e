"""Failures during a training: rows that cannot be made, and memory or a disk that runs out.

Knows nothing of models and rows.
"""

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
from sam4mllm.training.checkpoints import whole_ones

LESS_MEMORY = (
    "halve training.per_device_train_batch_size and double training.gradient_accumulation_steps, or set "
    "training.gradient_checkpointing to true, and resume from the checkpoints, which are kept; into another out, lower "
    "rows.per_image or load the base in 4 bits (training.quantize: 4bit)"
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def steps_kept(trainer: Any) -> Iterator[None]:
    """Save a checkpoint if the block ends in a `UserError`, such as one about a row: rows are read between steps.

    Not if memory runs out, which may be in the middle of a step, and only in a run of one process: the others do not
    know of the error, and a save waits for all of them.
    """
    try:
        yield
    except UserError:
        step = trainer.state.global_step
        unsaved = step > 0 and step not in whole_ones(Path(trainer.args.output_dir))
        if unsaved and trainer.args.world_size == 1 and is_finite(trainer.model):
            trainer._save_checkpoint(trainer.model, trial=None)  # for which it has no public name
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        raise


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn an out-of-memory error of the block into a `UserError` that names options which need less.

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
    """Turn a full disk into a `UserError` that names the folder.

    Raises:
        UserError: if Python, safetensors or torch found no room for a file; other errors pass.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _no_room(error)
        if reason is None:
            raise
        raise UserError(
            f"cannot write into {folder}: {reason}; make room and run the same command, which resumes from the last "
            "complete checkpoint"
        ) from error


def _no_room(error: Exception) -> str | None:
    """The system's message if there is no room, else None."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in FULL else None
    number = re.search(r"\(os error (\d+)\)", str(error))  # safetensors'
    if number:
        return os.strerror(int(number[1])) if int(number[1]) in FULL else None
    # torch's writer says where it stood and not why
    written = "inline_container" in str(error) and re.search("unexpected pos|PytorchStreamWriter", str(error))
    return "a file could not be written to its end" if written else None
