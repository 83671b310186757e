"""Seals complete checkpoints, and removes old ones.

The trainer writes a checkpoint file by file. Once all files are on disk, ``whole.json`` lists them with their sizes. A
folder without ``whole.json`` was left by a killed process and is removed. When a complete checkpoint is removed,
``whole.json`` goes first. Files that are not needed to resume, such as the card, may change.

The Trainer's `save_total_limit` is not used. It removes the older checkpoint before the newer one is sealed, so a kill
in between would leave none. It also sorts by modification time, and calibration changes that of a checkpoint.

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
RESUME_FILES = ("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "trainer_state.json")
"""The files that a run resumes from: weights, optimizer, schedule, random states, and the trainer's log."""
MEASURED_BY = "asked"
"""The key of a log entry that holds its validation settings. Only scores with equal settings are compared."""
VALIDATION = "validation_"
"""The prefix of validation scores in the trainer's log."""
BEST_BY = VALIDATION + "cIoU"
"""The score by which the best checkpoint is chosen."""
OLD_VALIDATION = "held_out_"  # the prefix in the logs of version 0.1
_NAME = re.compile("checkpoint-([0-9]+)")


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all its files are on the disk."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != WHOLE)
    for path in files:
        sync_file(path)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    write_text(checkpoint / WHOLE, json.dumps(sizes, indent=1) + "\n")


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was sealed and the files needed to resume still have the same sizes."""
    return _is_sealed(checkpoint) and not _changed_files(checkpoint)


def complete_checkpoints(folder: Path) -> dict[int, Path]:
    """The complete checkpoints in a folder by step, in ascending order."""
    return {step: path for step, path in _by_step(folder).items() if is_complete(path)}


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint, to resume from; None if there is none.

    Raises:
        UserError: if the last sealed checkpoint has changed. Resuming from an earlier one would overwrite it.
    """
    last = next((path for path in reversed(_by_step(folder).values()) if _is_sealed(path)), None)
    if last is not None and (changed_files := _changed_files(last)):
        raise UserError(
            f"{last} was complete, but {changed_files[0]} has changed since: restore it, or move the folder away to "
            "resume from the previous checkpoint"
        )
    return last


def is_last_step(checkpoint: Path) -> bool:
    """Whether a checkpoint was saved after the run's last step."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def sweep(folder: Path) -> None:
    """Remove checkpoints that were never sealed."""
    for path in _by_step(folder).values():
        if not _is_sealed(path):
            log.warning("Removed the incomplete checkpoint %s.", path)
            _remove(path)


def prune(folder: Path, keep: int | None, best: int | None) -> None:
    """Remove complete checkpoints except the last ``keep`` and step ``best``; if ``keep`` is None, remove nothing."""
    steps = complete_checkpoints(folder)
    for step in list(steps)[: -keep if keep else 0]:
        if step != best:
            _remove(steps[step])


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Seals each new checkpoint and removes old ones, except the one with the best validation score.

    Args:
        keep: the number of latest checkpoints to keep; None keeps all.
        add_files: adds files to a checkpoint folder before it is sealed.
    """

    def __init__(self, keep: int | None, add_files: Callable[[Path], None]) -> None:
        self.keep, self.add_files = keep, add_files

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Use the recipe's logging and saving intervals, not the resumed state's; rename score keys of version 0.1."""
        state.compute_steps(args, state.max_steps)
        for entry in state.log_history:
            for name in [name for name in entry if name.startswith(OLD_VALIDATION)]:
                entry[VALIDATION + name.removeprefix(OLD_VALIDATION)] = entry.pop(name)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  the trainer's
        """Seal the checkpoint after all processes have written their files."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir)
            checkpoint = folder / f"checkpoint-{state.global_step}"
            self.add_files(checkpoint)
            seal(checkpoint)
            prune(folder, self.keep, best_step(state.log_history, BEST_BY))


def best_step(history: Sequence[Mapping[str, Any]], figure: str) -> int | None:
    """The step with the highest score, the first of equal ones; None if there are no scores.

    Only scores with the same validation settings as the last score are compared.
    """
    scored = [entry for entry in history if figure in entry]
    steps = {entry["step"]: entry[figure] for entry in scored if entry.get(MEASURED_BY) == scored[-1].get(MEASURED_BY)}
    return max(steps, key=lambda step: steps[step]) if steps else None


def _is_sealed(checkpoint: Path) -> bool:
    return (checkpoint / WHOLE).is_file()


def _changed_files(checkpoint: Path) -> list[str]:
    """The files needed to resume that are missing or have changed in size since the checkpoint was sealed."""
    sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    files = {name: checkpoint / name for name in sizes if any(fnmatchcase(name, pattern) for pattern in RESUME_FILES)}
    return [name for name, file in files.items() if not file.is_file() or file.stat().st_size != sizes[name]]


def _by_step(folder: Path) -> dict[int, Path]:
    """The trainer's checkpoint folders by step, in ascending order."""
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*") if path.is_dir()]
    return dict(sorted((int(name[1]), path) for name, path in matches if name))


def _remove(checkpoint: Path) -> None:
    (checkpoint / WHOLE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
