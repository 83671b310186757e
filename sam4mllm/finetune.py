"""LoRA (or all weights) by plain cross-entropy through TRL, on rows that are what a chat would produce.

Trained are a LoRA on the language model's linear layers and on those of the projector between picture and language,
found from the model's structure; everything else keeps its weights. Knows no model and no data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from trl import SFTConfig, SFTTrainer

from sam4mllm.errors import UserError
from sam4mllm.mllm import Conversation
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.mllm.hf_adapter import Card, fingerprint

# those of transformers that need no further setting
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., 2022): W + alpha / rank * B A.

    Raises:
        UserError: for a value that is not allowed.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise UserError(
                f"a LoRA has a rank and an alpha of 1 or more and a dropout of 0 to less than 1, got {self.rank}, "
                f"{self.alpha} and {self.dropout}"
            )


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        steps: optimizer steps.
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
        gradient_checkpointing: less memory for a third more time.
        log_every: steps between losses in the log.
        save_every: steps between checkpoints, from the last of which a stopped run goes on.

    Raises:
        UserError: for a value that is not allowed.
    """

    steps: int
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
    gradient_checkpointing: bool = False
    log_every: int = 10
    save_every: int = 500

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "accumulate", "log_every", "save_every")
        for name, allowed, sound in (
            *((name, "1 or more", getattr(self, name) >= 1) for name in counts),
            ("learning_rate", "above 0", 0 < self.learning_rate < inf),
            ("schedule", f"one of {', '.join(SCHEDULES)}", self.schedule in SCHEDULES),
            ("warmup", "0 to less than 1", 0 <= self.warmup < 1),
            ("weight_decay", "0 or more", 0 <= self.weight_decay < inf),
            ("beta2", "0 to less than 1", 0 <= self.beta2 < 1),
            ("clip", "0 or more", 0 <= self.clip < inf),
            ("seed", "0 to less than 2**32", 0 <= self.seed < 2**32),
        ):
            if not sound:
                raise UserError(f"a training's {name} is {allowed}, got {getattr(self, name)}")


def finetune(mllm: HfMLLM, row: Callable[[int], Conversation], training: Training, out: Path) -> Path:
    """Train, or go on from the last checkpoint below ``out``, and write what was learned.

    Args:
        mllm: the base; a LoRA is laid into it, and none of its own weights changes.
        row: the picture and the turns of row 0, 1, 2 ...; the same for the same number, so that a run can go on.
        training: how.
        out: receives the adapter with its card or, where all weights are trained, the whole model; checkpoints lie
            in ``out/checkpoints``.

    Returns:
        ``out``.

    Raises:
        UserError: where ``out`` holds a run that was begun on another base.
    """
    card = Card(fingerprint(mllm.model), mllm.dialect.name)
    _check_base(card, out / "checkpoints")
    model = mllm.model
    if training.lora is not None:
        torch.manual_seed(training.seed)
        lora = LoraConfig(
            r=training.lora.rank,
            lora_alpha=training.lora.alpha,
            lora_dropout=training.lora.dropout,
            target_modules=trainable_layers(model),
        )
        model = get_peft_model(model, lora)
    count = training.steps * training.batch * training.accumulate
    trainer = SFTTrainer(
        model=model,
        args=_arguments(training, out / "checkpoints", on_cpu=model.device.type == "cpu"),
        train_dataset=Dataset.from_dict({"row": range(count)}),
        data_collator=lambda chosen: mllm.rows([row(one["row"]) for one in chosen]),
        processing_class=mllm.processor,
    )
    trainer.train(resume_from_checkpoint=any((out / "checkpoints").glob("checkpoint-*")))
    model.eval()
    model.save_pretrained(out)
    if training.lora is None:
        mllm.processor.save_pretrained(out)
    else:
        card.write(out)
    return out


def _check_base(card: Card, checkpoints: Path) -> None:
    """Note in the folder of checkpoints which base they are of, and refuse those of another."""
    noted = Card.read(checkpoints) if checkpoints.is_dir() else None
    if noted not in (None, card):
        raise UserError(f"{checkpoints} are of another base, or of another dialect: give another out")
    checkpoints.mkdir(parents=True, exist_ok=True)
    card.write(checkpoints)


def trainable_layers(model: Any) -> list[str]:
    """The names of the linear layers of the language model, and of those outside of it and of the image encoder.

    The latter are the projector; the output layer is none of them. Where the projector lies inside the image encoder,
    it is left alone.
    """
    decoder, encoder = (set(part.modules()) for part in (model.get_decoder(), model.get_encoder("image")))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not model.get_output_embeddings()
        and (module in decoder or module not in encoder)
    ]


def _arguments(training: Training, out: Path, on_cpu: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(out),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        adam_beta2=training.beta2,
        max_grad_norm=training.clip,
        seed=training.seed,
        bf16=training.bf16,
        gradient_checkpointing=None,  # its deprecated name, which TRL sets to True
        activation_checkpointing=training.gradient_checkpointing,
        logging_steps=training.log_every,
        save_steps=training.save_every,
        save_total_limit=1,
        max_length=None,  # TRL's default of 1024 would cut image tokens
        remove_unused_columns=False,  # the rows hold what our collator reads
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=on_cpu,
        report_to=[],
        disable_tqdm=True,
    )
