"""How to train, and what is known of the processes that do: values of a recipe, checked. Trains nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from sam4mllm.errors import UserError
from sam4mllm.training.lora import Lora

# those of transformers that need no further setting
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        steps: optimizer steps, or
        epochs: how often the data is gone through; whoever has rows turns it into steps.
        batch: conversations a step, on each device.
        accumulate: batches a step.
        learning_rate: the highest; reached after ``warmup`` of the steps, and falling to nothing by the end.
        schedule: how it falls, one of `SCHEDULES`.
        warmup: share of the steps, 0 to less than 1.
        weight_decay: of AdamW.
        beta2: of AdamW.
        clip: the gradient's greatest norm.
        seed: of the adapter's first weights, and of the order of rows.
        lora: the adapter; None trains all weights.
        bf16: mixed precision; needs a device that has it.
        quantize: ``4bit`` packs the base's weights for the training of a LoRA (QLoRA); needs a GPU.
        gradient_checkpointing: less memory for a third more time.
        log_every: steps between losses in the log.
        save_every: steps between checkpoints, from the last of which a stopped run goes on.
        keep: how many of the last checkpoints are kept, beside the best by held-out cIoU.
        workers: processes that make rows ahead, for each that trains; 0 makes them between the steps.
        report_to: where the log goes besides, as transformers names it: tensorboard, wandb ...

    Raises:
        UserError: for a value that is not allowed.
    """

    steps: int | None = None
    epochs: float | None = None
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-4
    schedule: str = "linear"
    warmup: float = 0.01
    weight_decay: float = 1e-3
    beta2: float = 0.999
    clip: float = 1.0
    seed: int = 0
    lora: Lora | None = field(default_factory=Lora)
    bf16: bool = False
    quantize: str | None = None
    gradient_checkpointing: bool = False
    log_every: int = 10
    save_every: int = 500
    keep: int = 1
    workers: int = 0
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.steps is None) is (self.epochs is None):
            raise UserError(f"a training has either steps or epochs, got {self.steps} and {self.epochs}")
        counts = ("batch", "accumulate", "log_every", "save_every", "keep")
        for name, allowed, sound in (
            ("steps", "1 or more", self.steps is None or self.steps >= 1),
            ("epochs", "above 0", self.epochs is None or 0 < self.epochs < inf),
            *((name, "1 or more", getattr(self, name) >= 1) for name in counts),
            ("learning_rate", "above 0", 0 < self.learning_rate < inf),
            ("schedule", f"one of {', '.join(SCHEDULES)}", self.schedule in SCHEDULES),
            ("warmup", "0 to less than 1", 0 <= self.warmup < 1),
            ("weight_decay", "0 or more", 0 <= self.weight_decay < inf),
            ("beta2", "0 to less than 1", 0 <= self.beta2 < 1),
            ("clip", "0 or more", 0 <= self.clip < inf),
            ("workers", "0 or more", self.workers >= 0),
            ("seed", "0 to less than 2**32", 0 <= self.seed < 2**32),
            (
                "quantize",
                "4bit, with a lora, or null",
                self.quantize is None or (self.quantize == "4bit" and self.lora),
            ),
        ):
            if not sound:
                raise UserError(f"a training's {name} is {allowed}, got {getattr(self, name)}")

    def in_steps(self, rows_in: Callable[[float], int], processes: int = 1) -> Training:
        """The same with its steps counted; ``rows_in`` says how many rows so many epochs are.

        Raises:
            UserError: where they are none.
        """
        if self.epochs is None:
            return self
        rows = rows_in(self.epochs)
        if not rows:
            raise UserError(f"{self.epochs} epochs are too few: they hold no conversation")
        return replace(self, steps=ceil(rows / self.rows_a_step(processes)), epochs=None)

    def rows_a_step(self, processes: int = 1) -> int:
        """How many conversations are learned from in a step."""
        return self.batch * self.accumulate * processes


def check_reports(names: Sequence[str]) -> None:
    """Refuse places for the log that transformers does not know, or whose package is missing.

    Raises:
        UserError: naming what is known, or the pip command.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(f"no report goes to {name!r}: choose from {', '.join(INTEGRATION_TO_CALLBACK)}")
        if importlib.util.find_spec(name) is None:
            extra = "sam4mllm[tensorboard]" if name == "tensorboard" else name
            raise UserError(f"reports to {name} need its package: pip install {extra}")


def process_count() -> int:
    """How many processes train together, as their launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """Which of them this is, from 0 on."""
    return int(os.environ.get("RANK", "0"))


def first_process() -> bool:
    """Whether this process is the one that writes."""
    return process_number() == 0
