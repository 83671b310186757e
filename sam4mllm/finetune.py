"""LoRA (or all weights) by plain cross-entropy through TRL, on rows that are what a chat would produce.

What is trained is found by `trainable`; how a run is seen, kept and stopped is in `watching`, `checkpoints` and
`stopping`. Knows no model and no data set.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import ceil, inf
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl import SFTConfig, SFTTrainer

from sam4mllm.checkpoints import Keeping, last_whole, sweep, whole_ones
from sam4mllm.errors import UserError
from sam4mllm.mllm import Conversation
from sam4mllm.mllm.card import Card
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.mllm.hf_adapter import fingerprint
from sam4mllm.model_card import write_model_card
from sam4mllm.stopping import Diverged, Stop, enough_disk, enough_memory, steps_kept
from sam4mllm.trainable import Lora, laid, settled
from sam4mllm.watching import BEST_OF, HeldOutRounds, Lines, Pace, Watch

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
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


def finetune(
    mllm: HfMLLM,
    row: Callable[[int], Conversation],
    training: Training,
    out: Path,
    *,
    card: Card | None = None,
    watch: Watch | None = None,
    watch_every: int = 500,
) -> Path:
    """Train, or go on from the last checkpoint below ``out``, and write what was learned.

    Args:
        mllm: the base; a LoRA is laid into it, and none of its own weights changes.
        row: the picture and the turns of row 0, 1, 2 ...; the same for the same number, so that a run can go on.
        training: how.
        out: receives the adapter or, where all weights are trained, the whole model, with its card and ``README.md``;
            checkpoints lie in ``out/checkpoints``, and are adapters themselves.
        card: what is said of the adapter beside its base and its dialect, which are found here.
        watch: from a step to figures of held-out samples, such as ``cIoU``.
        watch_every: steps between such looks.

    Returns:
        ``out``.

    Raises:
        UserError: where ``out`` holds a run that was begun on another base, where epochs are not yet counted in steps,
            where memory or the disk runs out, and where weights are no numbers any more; and whatever ``row`` raises,
            once a checkpoint of the steps before is written.
        KeyboardInterrupt: after an interrupt, once a checkpoint is written.
    """
    if training.steps is None:
        raise UserError("how many steps the epochs are is not counted: give Training.in_steps of the rows")
    base = fingerprint(mllm.model)
    card = replace(card or Card(base, ""), base=base, dialect=mllm.dialect.name)
    args = _arguments(training, out / CHECKPOINTS, on_cpu=mllm.model.device.type == "cpu")
    count = training.steps * training.rows_a_step(args.world_size)  # which finds the other processes
    with PartialState().main_process_first():
        _check_base(card, out / CHECKPOINTS)
        sweep(out / CHECKPOINTS)
    stop, pace = Stop(), Pace()
    lines = Lines(pace)
    trainer = SFTTrainer(
        model=_begun(mllm.model, training),
        args=args,
        train_dataset=Dataset.from_dict({"row": range(count)}),
        data_collator=lambda chosen: mllm.rows([row(one["row"]) for one in chosen]),
        processing_class=mllm.processor,
        callbacks=[Diverged(), lines, stop, Keeping(training.keep, BEST_OF, card.write)],
    )
    trainer.remove_callback(PrinterCallback)  # it would write the log to standard output
    if watch is not None:
        _refuse_sharded(trainer)
        trainer.add_callback(HeldOutRounds(watch, watch_every, pace, trainer.log))
    _train(trainer, stop, lines)
    with enough_disk(out):
        _write(trainer, mllm, out, card, adapter=training.lora is not None)
    return out


def _begun(model: Any, training: Training) -> Any:
    """The model as it is trained, the same for the same seed."""
    torch.manual_seed(training.seed)
    return model if training.lora is None else laid(model, training.lora, training.bf16)


def _refuse_sharded(trainer: SFTTrainer) -> None:
    if trainer.is_fsdp_enabled:
        raise UserError("held-out samples cannot be asked while FSDP spreads the weights: leave held_out out")


def _check_base(card: Card, checkpoints: Path) -> None:
    """Note in the folder of checkpoints which base they are of, and refuse whole ones of another."""
    noted = Card.read(checkpoints) if whole_ones(checkpoints) else None
    if noted is not None and not noted.of_same_base(card):
        raise UserError(f"{checkpoints} are of another base, or of another dialect: give another out")
    checkpoints.mkdir(parents=True, exist_ok=True)
    card.write(checkpoints)


def _train(trainer: SFTTrainer, stop: Stop, lines: Lines) -> None:
    """Train to the last step.

    Raises:
        UserError: as `finetune` does.
        KeyboardInterrupt: where the training was stopped before.
    """
    folder = Path(trainer.args.output_dir)
    begun = last_whole(folder)
    with ExitStack() as during:
        watched, kept = lines.pace.counting(trainer.model), steps_kept(trainer)
        shown = (stop.listening(), lines.shown(), watched)
        for each in (enough_disk(folder), enough_memory(), *shown, _said_by_workers(), kept):
            during.enter_context(each)
        trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        done = f"step {trainer.state.global_step} of {trainer.state.max_steps}"
        log.warning("Stopped after %s, which is saved: the same command goes on from there.", done)
        raise KeyboardInterrupt


@contextmanager
def _said_by_workers() -> Iterator[None]:
    """Keeps what a user is told of an error in a worker, which torch wraps in the worker's traceback."""
    try:
        yield
    except UserError as error:
        said = str(error).strip().rpartition(f"\n{UserError.__module__}.{UserError.__name__}: ")[2]
        raise UserError(said) from error


def _write(trainer: SFTTrainer, mllm: HfMLLM, out: Path, card: Card, adapter: bool) -> None:
    """An adapter with its card; or a whole model, which needs nothing else. The model is then as it will be asked."""
    model = trainer.model.eval()
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathered, where devices share them
    if PartialState().is_main_process:
        if not adapter:
            model.config.sam4mllm_dialect = card.dialect
            mllm.processor.save_pretrained(out)
        model.save_pretrained(out, state_dict=weights)
        card.write(out)
        write_model_card(out, card, trainer.state.log_history, adapter)
    PartialState().wait_for_everyone()
    if adapter:
        settled(model)


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
        logging_nan_inf_filter=False,  # which would put the mean of earlier losses in the place of one that is nan
        save_steps=training.save_every,
        save_total_limit=None,  # `Keeping` does, once the newer one is whole
        max_length=None,  # TRL's default of 1024 would cut image tokens
        remove_unused_columns=False,  # the rows hold what our collator reads
        dataloader_num_workers=training.workers,
        dataloader_multiprocessing_context="fork"
        if training.workers
        else None,  # rows are made by a function's closure
        train_sampling_strategy="sequential",  # they are shuffled epoch by epoch where they are made
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=on_cpu,
        report_to=list(training.report_to),
        disable_tqdm=True,
    )
