"""Trains a LoRA, or all weights, by cross-entropy with TRL's `SFTTrainer`.

`lora` finds the layers to train; `callbacks`, `checkpoints` and `failures` report, save and stop a run.
"""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from sam4mllm.errors import UserError
from sam4mllm.mllm import ImageTurns
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.hf.adapter import base_fingerprint
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.callbacks import Progress, Scoring, Stop, StopOnDivergence, ValidationRounds
from sam4mllm.training.checkpoints import SealCheckpoints, is_last_step, last_complete_checkpoint, sweep
from sam4mllm.training.config.training import Training
from sam4mllm.training.failures import checkpoint_on_error, disk_errors_as_user_errors, memory_errors_as_user_errors
from sam4mllm.training.lora import attach_lora, cast_copies
from sam4mllm.training.model_card import write_model_card

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


def finetune(
    mllm: HfMLLM,
    row: Callable[[int], ImageTurns],
    training: Training,
    out: Path,
    *,
    card: AdapterCard | None = None,
    scoring: Scoring | None = None,
) -> Path:
    """Train, or resume from the last checkpoint in ``out``, and write the adapter.

    Args:
        mllm: the base; a LoRA is attached to it, and its own weights keep their values.
        row: returns the image and the turns of row 0, 1, 2 ...; they must depend on the number only, so that a run can
            resume.
        training: the arguments of TRL and peft.
        out: the folder for the adapter or, if all weights are trained, the complete model, with its card and
            ``README.md``; checkpoints are in ``out/checkpoints``, and are adapters too.
        card: the adapter's card; the base's fingerprint and the dialect are added.
        scoring: scores the model during the training; None for no validation.

    Returns:
        ``out``.

    Raises:
        ValueError: if epochs are not converted to steps.
        UserError: if ``out`` contains a run of another base, TRL or peft refuses an argument, memory or disk space runs
            out, or weights become NaN. An error of ``row`` is raised after a checkpoint of the previous steps.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    if training.max_steps is None:
        raise ValueError("training.max_steps is None: call training.in_steps() first")
    base = base_fingerprint(mllm.model)
    card = replace(card or AdapterCard(base, ""), base=base, dialect=mllm.dialect.name)
    args = sft_config(training, out / CHECKPOINTS, on_cpu=mllm.model.device.type == "cpu")
    _use_one_gpu(args, mllm.model.device)
    with PartialState().main_process_first():
        _start_checkpoints(card, out / CHECKPOINTS)
        sweep(out / CHECKPOINTS)
    stop, progress = Stop(), Progress(training.disable_tqdm)
    callbacks = [StopOnDivergence(), progress, stop, SealCheckpoints(training.save_total_limit, card.write)]
    trainer = _make_trainer(mllm, row, training, args, callbacks)
    if scoring is not None:
        if trainer.is_fsdp_enabled:
            raise UserError("validation is not possible with FSDP, which shards the weights: set validation to null")
        trainer.add_callback(ValidationRounds(scoring, trainer.log))
    _train(trainer, stop, progress)
    with disk_errors_as_user_errors(out):
        _write(trainer, mllm, out, card, adapter=training.lora is not None)
    return out


def _make_trainer(
    mllm: HfMLLM, row: Callable[[int], ImageTurns], training: Training, args: SFTConfig, callbacks: list[Any]
) -> SFTTrainer:
    """A trainer of the model or, if the recipe has a LoRA, of new adapters on it."""
    torch.manual_seed(training.seed)  # the initial weights of the adapters depend only on the seed
    model = attach_lora(mllm.model, training.lora, training.bf16) if training.lora else mllm.model
    rows = args.max_steps * training.rows_per_step(args.world_size)  # world_size is set by SFTConfig
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"row": range(rows)}),
        data_collator=lambda numbers: mllm.rows([row(number["row"]) for number in numbers]),
        processing_class=mllm.processor,
        callbacks=callbacks,
    )
    # makes the Trainer pass the step's token count to TRL's loss, even if the model's forward does not take it
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)  # it would write the log to standard output
    return trainer


def sft_config(training: Training, out: Path, on_cpu: bool) -> SFTConfig:
    """The arguments of the recipe, and those that the package sets itself; `config.refused` gives the reasons.

    Raises:
        UserError: if `SFTConfig` refuses one of them.
    """
    workers = training.dataloader_num_workers
    fixed = {
        "output_dir": str(out),
        "use_cpu": on_cpu,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,  # `Progress` shows the bar
        "save_total_limit": None,  # `SealCheckpoints` removes old checkpoints after the new one is complete
        "max_length": None,  # TRL's default of 1024 would cut image tokens
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "dataloader_multiprocessing_context": "fork" if workers else None,  # the collator is a closure
        "train_sampling_strategy": "sequential",  # the sampler of the training rows has shuffled them
    }
    try:
        return SFTConfig(**{**training.library_arguments(), **fixed})
    except (TypeError, ValueError) as error:
        raise UserError(f"SFTConfig refuses the values of training: {' '.join(str(error).split())}") from error


def _use_one_gpu(args: SFTConfig, device: torch.device) -> None:
    """Use one GPU per process, because TRL cannot split a batch within a process."""
    if args.n_gpu < 2:
        return
    if device.index:
        raise UserError(f"training uses the first visible GPU, got device {device}: set CUDA_VISIBLE_DEVICES instead")
    log.warning("Using one of %d GPUs: `accelerate launch -m sam4mllm.cli finetune …` uses all of them.", args.n_gpu)
    args._n_gpu = 1  # the Trainer does the same if a model is spread over devices


def _start_checkpoints(card: AdapterCard, checkpoints: Path) -> None:
    """Refuse complete checkpoints of another base; otherwise write the card to the checkpoint folder."""
    old_card = AdapterCard.read(checkpoints) if last_complete_checkpoint(checkpoints) else None
    if old_card is not None and not old_card.of_same_base(card):
        raise UserError(f"the checkpoints in {checkpoints} belong to another base or dialect: set another out")
    checkpoints.mkdir(parents=True, exist_ok=True)
    card.write(checkpoints)


def _train(trainer: SFTTrainer, stop: Stop, progress: Progress) -> None:
    """Train to the last step.

    Raises:
        UserError: as `finetune` does.
        KeyboardInterrupt: if the training was interrupted by Ctrl-C.
    """
    folder = Path(trainer.args.output_dir)
    checkpoint = last_complete_checkpoint(folder)
    with (
        disk_errors_as_user_errors(folder),
        memory_errors_as_user_errors(),
        stop.handle_interrupts(),
        _optimizer_errors(trainer),
        _worker_errors(),
        checkpoint_on_error(trainer),
        closing(progress),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.requested and trainer.state.global_step < trainer.state.max_steps:
        done = f"step {trainer.state.global_step} of {trainer.state.max_steps}"
        log.warning("Stopped after %s; the checkpoint is saved, and the same command resumes from it.", done)
        raise KeyboardInterrupt


@contextmanager
def _optimizer_errors(trainer: SFTTrainer) -> Iterator[None]:
    """Turn an error of transformers about an optimizer or schedule that it cannot build into a `UserError`."""
    try:
        yield
    except (ImportError, TypeError, ValueError) as error:
        if trainer.lr_scheduler is not None:  # both were built, so the error has another cause
            raise
        raise UserError(f"cannot build training.optim or its schedule: {' '.join(str(error).split())}") from error


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Extract the message of a worker's `UserError`, which torch wraps in a traceback."""
    try:
        yield
    except UserError as error:
        message = str(error).strip().rpartition(f"\n{UserError.__module__}.{UserError.__name__}: ")[2]
        raise UserError(message) from error


def _write(trainer: SFTTrainer, mllm: HfMLLM, out: Path, card: AdapterCard, adapter: bool) -> None:
    """Write the adapter or the complete model, with its card; the model is in evaluation mode afterwards."""
    model = trainer.model.eval()
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathered from all devices if sharded
    if PartialState().is_main_process and is_finished(out):
        log.warning("%s already contains these weights: its %s is not changed.", out, CARD)
        write_model_card(out, card, trainer.state.log_history, adapter)
    elif PartialState().is_main_process:
        _remove_card(out, card)
        if not adapter:
            model.config.sam4mllm_dialect = card.dialect
            mllm.processor.save_pretrained(out)
        model.save_pretrained(out, state_dict=weights)
        write_model_card(out, card, trainer.state.log_history, adapter)  # after peft's, which it replaces
        card.write(out)  # last, so that a card is never next to the weights of another run
    PartialState().wait_for_everyone()
    if adapter:
        cast_copies(model, model.get_base_model().dtype)  # as loading the adapter does


def is_finished(out: Path) -> bool:
    """Whether a folder contains a card and the weights of its run's last step; the card may be calibrated."""
    last = last_complete_checkpoint(out / CHECKPOINTS)
    if last is None or not is_last_step(last) or not (out / CARD).is_file():
        return False
    pairs = [(file, out / file.name) for file in last.glob("*.safetensors")]
    return bool(pairs) and all(copy.is_file() and filecmp.cmp(file, copy, shallow=False) for file, copy in pairs)


def _remove_card(out: Path, card: AdapterCard) -> None:
    """Remove the card of weights that are overwritten, and warn of options that the new card does not have."""
    old_card = AdapterCard.read(out)
    for name, options in old_card.prompters.items() if old_card else ():
        if options and options != card.options(name):
            dropped = ", ".join(f"{option} {value}" for option, value in options.items())
            log.warning("New weights in %s: the options of %s on the old card are dropped (%s).", out, name, dropped)
    (out / CARD).unlink(missing_ok=True)
