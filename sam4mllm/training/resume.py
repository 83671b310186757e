"""Records which run a checkpoint folder belongs to, and checks it before resuming.

A run resumes only if all settings that determine rows, weights and schedule are equal. Batches are compared by rows
per step, and data by contents instead of paths. Arguments of TRL and peft are recorded if they are not the defaults.

    out/checkpoints/run.json: {"rows a step": 32, "data.0.samples": "sha256:9a41b2c3d4e5", "mllm": "owner/name",
                               "training.max_steps": 2000, "training.learning_rate": 0.0001, ...}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import CARD
from sam4mllm.runtime.files import write_text
from sam4mllm.runtime.provenance import check_same, flatten, hash_indices
from sam4mllm.training.checkpoints import last_complete_checkpoint
from sam4mllm.training.config.arguments import LoraArguments, SftArguments
from sam4mllm.training.config.refused import LORA_RENAMED, TRAINING_RENAMED
from sam4mllm.training.trainer import CHECKPOINTS

log = logging.getLogger(__name__)

RECORD = "run.json"
MAY_CHANGE = (
    "out",
    "device",
    "attention",
    "trust_remote_code",
    "chat_template",  # a path; the card contains its text, which is compared once the base is loaded
    "data.*.images",
    "pqpp*",
    "validation*",
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
    "training.gradient_checkpointing*",
    "training.activation_offloading",
    "training.torch_*",
    "training.use_cache",
    "training.logging_*",
    "training.log_*",
    "training.save_*",
    "training.report_to*",
    "training.run_name",
    "training.project",
    "training.trackio_*",
    "training.*hub*",
    "training.disable_tqdm",
    "training.debug*",
    "training.skip_memory_metrics",
    "training.include_num_input_tokens_seen",
    "training.dataloader_*",
    "training.ddp_*",
    "training.fsdp*",
    "training.deepspeed*",
)
"""Patterns of the recipe keys that may change when a run resumes; no other key may."""
FOLDERS = ("data.*.samples", "data.*.targets", "data.*.talks")
MODEL = ("*.safetensors", "*.bin", CARD, "README.md")  # the files that a training overwrites at its end
DEFAULTS = {
    **{f"training.{field.name}": field.default for field in fields(SftArguments)},
    **{f"training.lora.{field.name}": field.default for field in fields(LoraArguments)},
    "training.lora.init_lora_weights": True,  # version 0.1 had no such key
}
"""The values of keys that are not in the record."""
RENAMED = {
    **{f"training.{old}": f"training.{new}" for old, new in TRAINING_RENAMED.items()},
    **{f"training.lora.{old}": f"training.lora.{new}" for old, new in LORA_RENAMED.items()},
}
"""The keys in records of version 0.1, and their current names."""


def identity_of(recipe: Mapping[str, Any], rows_per_step: int) -> dict[str, Any]:
    """The values that determine rows, weights and schedule, by the recipe's keys.

    Args:
        recipe: the recipe's nested values.
        rows_per_step: rows per step over all processes.
    """
    values = {key: value for key, value in flatten(recipe).items() if not _is_among(key, MAY_CHANGE)}
    digests = {key: _digest(path) for key, path in values.items() if path is not None and _is_among(key, FOLDERS)}
    return {"rows a step": rows_per_step, **_without_defaults({**values, **digests})}


def check_resumable(out: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Check that a run of this identity can start or resume in a folder; write nothing.

    If the folder has no complete checkpoint, another run may start in it.

    Args:
        out: the run's folder.
        identity: as `identity_of` returns it.
        resume: whether a run must have been started there.

    Raises:
        UserError: if the folder has checkpoints of another run, weights would be overwritten, or there is no run to
            resume.
    """
    note, has_checkpoint = (
        _read_note(out / CHECKPOINTS / RECORD),
        last_complete_checkpoint(out / CHECKPOINTS) is not None,
    )
    if not has_checkpoint:
        _check_no_weights(out)
    if note is None and has_checkpoint:
        raise UserError(
            f"{out / CHECKPOINTS} has no {RECORD}, so the run that wrote its checkpoints is unknown: set another out"
        )
    if note is None and resume:
        raise UserError(f"nothing to resume: no run was started in {out}")
    if note is not None and (has_checkpoint or resume):
        remedy = "use the values it was started with, or set another out"
        # the record's keys come first, so the message names them first
        check_same({**note, **DEFAULTS, **note}, {**DEFAULTS, **identity}, str(out), remedy)
    if resume and not has_checkpoint:
        log.warning("%s has no checkpoint: the run starts from the first step.", out)


def write_record(out: Path, identity: Mapping[str, Any]) -> None:
    """Write the record of a run to its checkpoint folder."""
    write_text(out / CHECKPOINTS / RECORD, json.dumps(identity, indent=1) + "\n")


def _read_note(file: Path) -> dict[str, Any] | None:
    """The recorded identity with the current key names; None if there is no record."""
    if not file.is_file():
        return None
    try:
        note = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"cannot read {file}, the record of the run: {error}; set another out") from error
    return _without_defaults({_current_name(key): value for key, value in note.items()})


def _current_name(key: str) -> str:
    """The current name of a key; a list index may follow it, as in ``training.lora.targets.0``."""
    name, dot, number = key.rpartition(".")
    return RENAMED.get(key) or (f"{RENAMED[name]}{dot}{number}" if name in RENAMED else key)


def _without_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in DEFAULTS or value != DEFAULTS[key]}


def _check_no_weights(out: Path) -> None:
    files = [path.name for pattern in MODEL for path in sorted(out.glob(pattern))]
    if files:
        raise UserError(f"{out} already contains {files[0]} but no checkpoint to resume from: set another out")


def _digest(folder: str) -> str:
    """A short digest of the index files in a data folder; two folders collide with a probability of about 10^-14."""
    return " ".join(f"sha256:{digest[:12]}" for digest in hash_indices([folder]).values())


def _is_among(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
