"""Of what run the checkpoints in a folder are: noted when it begins, and compared before it is gone on with.

What decides rows, weights and schedule is compared, and nothing else: batches by how many rows a step has, data by what
it holds and not by where it lies. Knows nothing of models, and of how a recipe is read.

    out/checkpoints/run.json: {"rows a step": 32, "data.0.samples": "sha256:9a41b2c3d4e5", "mllm": "owner/name",
                               "training.steps": 2000, "training.learning_rate": 0.0001, ...}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import CARD
from sam4mllm.runtime.files import write_text
from sam4mllm.runtime.provenance import data
from sam4mllm.training.checkpoints import last_whole
from sam4mllm.training.trainer import CHECKPOINTS

log = logging.getLogger(__name__)

NOTE = "run.json"
FREE = (
    "out",
    "device",
    "attention",
    "trust_remote_code",
    "chat_template",  # a place; its text is the card's, which is compared once the base is there
    "data.*.images",
    "pqpp*",
    "held_out*",
    "training.batch",
    "training.accumulate",
    "training.gradient_checkpointing",
    "training.log_every",
    "training.save_every",
    "training.keep",
    "training.report_to*",
    "training.workers",
)
"""What may change while a run is stopped, as patterns of a recipe's keys; whatever is not named here may not."""
FOLDERS = ("data.*.samples", "data.*.targets", "data.*.talks")
MODEL = ("*.safetensors", "*.bin", CARD, "README.md")  # what a training writes over at its end
TOLD = 3  # differences in an error


def identity_of(recipe: Mapping[str, Any], rows_a_step: int) -> dict[str, Any]:
    """What decides rows, weights and schedule, as plain values by the keys of a recipe.

    Args:
        recipe: its values, nested.
        rows_a_step: of all processes together.
    """
    known = {key: value for key, value in _flat(recipe).items() if not _among(key, FREE)}
    held = {key: _held(folder) for key, folder in known.items() if folder is not None and _among(key, FOLDERS)}
    return {"rows a step": rows_a_step, **known, **held}


def check_begun(out: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Refuse a folder in which a run of this identity can neither begin nor go on; writes nothing.

    A run that left no whole checkpoint decides nothing: another may begin in its place.

    Args:
        out: of the run.
        identity: as `identity_of` gives it.
        resume: whether the run must have been begun there.

    Raises:
        UserError: for whole checkpoints of another run, weights that would be written over, and nothing to resume.
    """
    noted, begun = _noted(out / CHECKPOINTS / NOTE), last_whole(out / CHECKPOINTS) is not None
    if not begun:
        _check_nothing_is_lost(out)
    if noted is None and begun:
        raise UserError(f"{out / CHECKPOINTS} has no {NOTE}, which says of what run they are: give another out")
    if noted is None and resume:
        raise UserError(f"there is nothing to go on from: no run was begun in {out}")
    if noted is not None and noted != identity and (begun or resume):
        raise UserError(f"{out} was begun with {_told(noted, identity)}: give what it was begun with, or another out")
    if resume and not begun:
        log.warning("No checkpoint was written in %s: the run begins anew.", out)


def note(out: Path, identity: Mapping[str, Any]) -> None:
    """Say of what run the checkpoints below a folder will be."""
    write_text(out / CHECKPOINTS / NOTE, json.dumps(identity, indent=1) + "\n")


def _noted(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} does not say of what run the checkpoints are: {error}") from error


def _check_nothing_is_lost(out: Path) -> None:
    there = [path.name for pattern in MODEL for path in sorted(out.glob(pattern))]
    if there:
        raise UserError(f"{out} holds {there[0]} already, and no checkpoint to go on from: give another out")


def _told(noted: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    found = [
        f"{key} {_shown(noted.get(key))}, now {_shown(identity.get(key))}"
        for key in {**noted, **identity}
        if noted.get(key) != identity.get(key)
    ]
    return "; ".join(found[:TOLD]) + ("; ..." if len(found) > TOLD else "")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _held(folder: str) -> str:
    """What the indices in a folder of data hold, in few digits: by chance alike in one of 10^14 pairs."""
    return " ".join(f"sha256:{digest[:12]}" for digest in data([folder]).values())


def _flat(values: Any, where: str = "") -> dict[str, Any]:
    """Nested values by their keys, with dots between them and numbers in lists, as overrides reach them."""
    if not isinstance(values, Mapping | list | tuple):
        return {where: values}
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    prefix = f"{where}." if where else ""
    return {key: one for name, value in pairs for key, one in _flat(value, f"{prefix}{name}").items()}


def _among(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
