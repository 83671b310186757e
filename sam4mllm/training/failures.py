"""Ends of a training before its last step: interrupts that wait for a checkpoint, weights that are no numbers any more,
memory or a disk that runs out. Knows nothing of models and rows.
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
from sam4mllm.training.callbacks import finite
from sam4mllm.training.checkpoints import whole_ones

LESS_MEMORY = (
    "halve training.batch and double training.accumulate, or set training.gradient_checkpointing to true, and go on "
    "from the checkpoints, which are kept; into another out, lower rows.per_image or load the base in 4 bits "
    "(training.quantize: 4bit)"
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
