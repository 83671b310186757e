"""Checkpoints that are whole or do not count, and which of them are kept.

The trainer writes a checkpoint file by file. When all are there and on the disk, ``whole.json`` is added to them, which
names each with its size; a folder without it is what a kill left of a checkpoint, and is removed. A whole one that is
not kept loses ``whole.json`` first. Files that a run does not go on from, such as the card, may change in a whole one.
Knows nothing of models.

    out/checkpoints/checkpoint-200/whole.json: {"adapter_model.safetensors": 20214, "optimizer.pt": 41310, ...}
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from sam4mllm.errors import UserError
from sam4mllm.runtime.files import sync_file, write_text

log = logging.getLogger(__name__)

WHOLE = "whole.json"
READ = ("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "trainer_state.json")
"""What a run that goes on reads: weights, optimizer, schedule, random numbers, and the trainer's log."""
ASKED = "asked"
"""In an entry of the trainer's log, what its figures were measured with; figures of other values are not compared."""
_NAME = re.compile("checkpoint-([0-9]+)")


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole, once all its files are on the disk."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != WHOLE)
    for path in files:
        sync_file(path)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    write_text(checkpoint / WHOLE, json.dumps(sizes, indent=1) + "\n")


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was declared whole, and all that a run goes on from is there."""
    return _is_sealed(checkpoint) and not _spoilt(checkpoint)


def whole_ones(folder: Path) -> dict[int, Path]:
    """The whole checkpoints below a folder by their step, the earliest first."""
    return {step: path for step, path in _by_step(folder).items() if is_whole(path)}


def last_whole(folder: Path) -> Path | None:
    """The checkpoint to go on from, if there is one.

    Raises:
        UserError: where the last that was declared whole is so no longer; going on from an earlier one would write over
            it.
    """
    last = next((path for path in reversed(_by_step(folder).values()) if _is_sealed(path)), None)
    if last is not None and (spoilt := _spoilt(last)):
        raise UserError(
            f"{last} was written to its end, but {spoilt[0]} is no longer what it was: put it back, or move the folder "
            "away to go on from the checkpoint before"
        )
    return last


def is_of_last_step(checkpoint: Path) -> bool:
    """Whether no step was left to do when a checkpoint was written."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def sweep(folder: Path) -> None:
    """Remove what a kill left of checkpoints, and none that was once whole."""
    for path in _by_step(folder).values():
        if not _is_sealed(path):
            log.warning("Removed %s, which was not written to its end.", path)
            _remove(path)


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Remove whole checkpoints, but for the last ``keep`` and that of step ``best``."""
    steps = whole_ones(folder)
    for step in list(steps)[:-keep]:
        if step != best:
            _remove(steps[step])


class Keeping(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Seals each checkpoint when it is written, and removes those that are not kept.

    Args:
        keep: how many of the last ones are kept.
        best_of: the name in the log of the figure whose highest value's checkpoint is kept besides.
        beside: adds files to a checkpoint before it is sealed.
    """

    def __init__(self, keep: int, best_of: str, beside: Callable[[Path], None]) -> None:
        self.keep, self.best_of, self.beside = keep, best_of, beside

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Save and log as often as is said now: a run that goes on would do it as often as when it was begun."""
        state.compute_steps(args, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Called when all files of this process are written."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir)
            checkpoint = folder / f"checkpoint-{state.global_step}"
            self.beside(checkpoint)
            seal(checkpoint)
            prune(folder, self.keep, best_step(state.log_history, self.best_of))


def best_step(history: Sequence[Mapping[str, Any]], figure: str) -> int | None:
    """The step at which a figure was highest, the first of several; None where it was never logged.

    Only of those that were measured as the last one was.
    """
    found = [entry for entry in history if figure in entry]
    steps = {entry["step"]: entry[figure] for entry in found if entry.get(ASKED) == found[-1].get(ASKED)}
    return max(steps, key=lambda step: steps[step]) if steps else None


def _is_sealed(checkpoint: Path) -> bool:
    return (checkpoint / WHOLE).is_file()


def _spoilt(checkpoint: Path) -> list[str]:
    """What a run would read of a sealed checkpoint, and is gone or has another size."""
    sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    read = {name: checkpoint / name for name in sizes if any(fnmatchcase(name, pattern) for pattern in READ)}
    return [name for name, file in read.items() if not file.is_file() or file.stat().st_size != sizes[name]]


def _by_step(folder: Path) -> dict[int, Path]:
    """The folders that a trainer's checkpoints are called by, the earliest first; those of other names are not."""
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*") if path.is_dir()]
    return dict(sorted((int(name[1]), path) for name, path in named if name))


def _remove(checkpoint: Path) -> None:
    (checkpoint / WHOLE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
