"""The checked values of `training` in a recipe; importing this module does not import torch, TRL or peft."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil
from typing import Any, ClassVar, Literal

from sam4mllm.errors import UserError
from sam4mllm.training.config.arguments import LoraArguments, SftArguments
from sam4mllm.training.config.ranges import check_ranges
from sam4mllm.training.config.refused import LORA_REFUSED, LORA_RENAMED, TRAINING_REFUSED, TRAINING_RENAMED

NEED_EVALUATION = ("reduce_lr_on_plateau", "greedy")
"""Schedules that need the loss of an evaluation set, which does not exist here."""


@dataclass(frozen=True, kw_only=True)
class Lora(LoraArguments):
    """Low-rank adapters (Hu et al., 2022): the arguments of `peft.LoraConfig`, and ``projector``.

    Attributes:
        r: rank.
        lora_alpha: the adapter's weight is lora_alpha / r.
        target_modules: linear layers of the language model, as shell patterns or as ends of their names; None: all.
        init_lora_weights: one of peft's initializations that do not change the base.
        projector: ``lora``: a LoRA on its linear layers, and full training of matrices outside a linear layer;
            ``full``: all of its weights; ``frozen``: nothing. This is no argument of peft: the projector is found from
            the model's structure.

    Raises:
        UserError: if a value is out of range.
    """

    RENAMED: ClassVar[Mapping[str, str]] = LORA_RENAMED
    REFUSED: ClassVar[Mapping[str, str]] = LORA_REFUSED

    r: int = 16
    lora_alpha: int = 32
    target_modules: tuple[str, ...] | None = None
    init_lora_weights: Literal[True, False, "gaussian", "orthogonal"] = True
    projector: Literal["lora", "full", "frozen"] = "lora"

    def __post_init__(self) -> None:
        ranges = {"1 or more": ("r", "lora_alpha"), "0 to less than 1": ("lora_dropout",)}
        check_ranges(self, "training.lora", ranges)
        if self.target_modules == ():
            raise UserError("training.lora.target_modules is empty: set names of layers, or null for all of them")

    def library_arguments(self) -> dict[str, Any]:
        """The arguments of `peft.LoraConfig` that differ from its defaults or have another default here.

        The modules are not included, because they depend on the model.
        """
        return _differing(self, LoraArguments, {"target_modules", "modules_to_save", "projector"})


@dataclass(frozen=True, kw_only=True)
class Training(SftArguments):
    """The arguments of `trl.SFTConfig` with the package's defaults, and two additional arguments.

    Attributes:
        max_steps: optimizer steps; set either this or ``num_train_epochs``.
        num_train_epochs: passes over the data, which `in_steps` converts to steps.
        learning_rate: the highest learning rate.
        warmup_steps: steps until the highest learning rate; below 1 it is a share of all steps.
        weight_decay: the weight decay of AdamW.
        seed: seed of the adapter's initial weights and of dropout; ``rows.seed`` determines the order of the rows.
        bf16: mixed precision in bfloat16; the device must support it.
        gradient_checkpointing: needs less memory and about a third more time.
        logging_first_step: log step 1, in addition to every ``logging_steps``-th step and the last.
        save_total_limit: number of latest checkpoints to keep, besides the best by validation cIoU; None keeps all.
        report_to: transformers names of reporting integrations, such as tensorboard or wandb.
        disable_tqdm: hide the progress bar.
        lora: the adapter; None trains all weights.
        quantize: ``4bit`` loads the base in 4 bits and trains a LoRA on it (QLoRA); needs a GPU. It is no argument of
            SFTConfig: the package loads the base, and does not quantize the projector and the last layer.

    Raises:
        UserError: if a value is out of range.
    """

    RENAMED: ClassVar[Mapping[str, str]] = TRAINING_RENAMED
    REFUSED: ClassVar[Mapping[str, str]] = TRAINING_REFUSED

    max_steps: int | None = None
    num_train_epochs: float | None = None
    learning_rate: float = 1e-4
    warmup_steps: int | float = 0.01
    weight_decay: float = 1e-3
    seed: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    logging_first_step: bool = True
    save_total_limit: int | None = 1
    report_to: tuple[str, ...] | str = ()
    disable_tqdm: bool = False
    lora: Lora | None = field(default_factory=Lora)
    quantize: str | None = None

    def __post_init__(self) -> None:
        if (self.max_steps is None) is (self.num_train_epochs is None):
            raise UserError(
                f"set either training.max_steps or training.num_train_epochs, and the other to null, got "
                f"{self.max_steps} and {self.num_train_epochs}"
            )
        ranges = {
            "1 or more": ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
            "1 or more, or null": ("save_total_limit",),
            "above 0": ("num_train_epochs", "logging_steps", "save_steps", "learning_rate"),
            "0 or more": ("warmup_steps", "weight_decay", "max_grad_norm", "dataloader_num_workers"),
            "0 to less than 1": ("adam_beta2",),
            "0 to less than 2**32": ("seed",),
        }
        check_ranges(self, "training", ranges)
        if self.lr_scheduler_type in NEED_EVALUATION:
            raise UserError(
                f"training.lr_scheduler_type must be a schedule that needs no evaluation set, got "
                f"{self.lr_scheduler_type}"
            )
        if self.quantize not in (None, "4bit") or (self.quantize and not self.lora):
            raise UserError(f"training.quantize must be 4bit, with a lora, or null, got {self.quantize}")

    @property
    def reports(self) -> tuple[str, ...]:
        """The names of the reporting integrations."""
        names = (self.report_to,) if isinstance(self.report_to, str) else self.report_to
        return () if names == ("none",) else names

    def in_steps(self, rows_in: Callable[[float], int], processes: int = 1) -> Training:
        """The same training with its epochs converted to steps.

        Args:
            rows_in: returns the number of rows in a number of epochs.
            processes: number of processes.

        Raises:
            UserError: if the epochs contain no row.
        """
        if self.num_train_epochs is None:
            return self
        rows = rows_in(self.num_train_epochs)
        if not rows:
            raise UserError(f"training.num_train_epochs {self.num_train_epochs} is too low: it gives no rows")
        return replace(self, max_steps=ceil(rows / self.rows_per_step(processes)), num_train_epochs=None)

    def rows_per_step(self, processes: int = 1) -> int:
        """The number of rows in an optimizer step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * processes

    def library_arguments(self) -> dict[str, Any]:
        """The arguments of `trl.SFTConfig` that differ from its defaults or have another default here."""
        values = _differing(self, SftArguments, {"lora", "quantize", "num_train_epochs"})
        checkpointing = {
            "gradient_checkpointing": None,  # the deprecated name of transformers, which TRL would set to True
            "activation_checkpointing": values.pop("gradient_checkpointing"),
            "activation_checkpointing_kwargs": values.pop("gradient_checkpointing_kwargs", None),
        }
        return {**values, **checkpointing, "report_to": list(self.reports)}

    def to_yaml(self) -> dict[str, Any]:
        """The values for a recipe: those that differ from the libraries' defaults."""
        lora = self.lora and _differing(self.lora, LoraArguments)
        return {**_differing(self, SftArguments, {"lora"}), "lora": lora}


def _differing(values: Any, library: type, without: Collection[str] = ()) -> dict[str, Any]:
    """The values that differ from the library's defaults or are not among the library's arguments."""
    defaults = {entry.name: entry.default for entry in fields(library)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(values).items()
        if name not in without and (name not in defaults or value != defaults[name])
    }


def process_count() -> int:
    """The number of training processes, as set by the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """The rank of this process."""
    return int(os.environ.get("RANK", "0"))


def first_process() -> bool:
    """Whether this process has rank 0, which writes the files."""
    return process_number() == 0
