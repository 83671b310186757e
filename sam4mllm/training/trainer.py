"""LoRA (or all weights) by plain cross-entropy through TRL, on rows that are what a chat would produce.

What is trained is found by `trainable`; how a run is seen, kept and stopped is in `watching`, `checkpoints` and
`stopping`. Knows no model and no data set.
"""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from sam4mllm.errors import UserError
from sam4mllm.mllm import Conversation
from sam4mllm.mllm.adapter_card import CARD, Card
from sam4mllm.mllm.hf.adapter import fingerprint
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.callbacks import BEST_OF, Diverged, HeldOutRounds, Lines, Pace, Stop, Watch
from sam4mllm.training.checkpoints import Keeping, is_of_last_step, last_whole, sweep
from sam4mllm.training.config import Training
from sam4mllm.training.failures import enough_disk, enough_memory, steps_kept
from sam4mllm.training.lora import laid, settled
from sam4mllm.training.model_card import write_model_card

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


def finetune(
    mllm: HfMLLM,
    row: Callable[[int], Conversation],
    training: Training,
    out: Path,
    *,
    card: Card | None = None,
    watch: Watch | None = None,
    watch_every: int = 500,
    asked: Mapping[str, Any] | None = None,
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
        asked: how those samples are asked; figures of a run that goes on are compared with those that were asked so.

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
    _on_one_device(args, mllm.model.device)
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
    trainer.model_accepts_loss_kwargs = True  # TRL's loss takes the step's tokens, also of models whose own does not
    trainer.remove_callback(PrinterCallback)  # it would write the log to standard output
    if watch is not None:
        _refuse_sharded(trainer)
        trainer.add_callback(HeldOutRounds(watch, watch_every, pace, trainer.log, asked))
    _train(trainer, stop, lines)
    with enough_disk(out):
        _write(trainer, mllm, out, card, adapter=training.lora is not None)
    return out


def _begun(model: Any, training: Training) -> Any:
    """The model as it is trained, the same for the same seed."""
    torch.manual_seed(training.seed)
    return model if training.lora is None else laid(model, training.lora, training.bf16)


def _on_one_device(args: SFTConfig, device: torch.device) -> None:
    """Of several GPUs use one, as a process does; TRL refuses to share a batch out within a process."""
    if args.n_gpu < 2:
        return
    if device.index:
        raise UserError(f"a training runs on the first GPU that it sees: in place of {device} set CUDA_VISIBLE_DEVICES")
    log.warning("One of %d GPUs is used: `accelerate launch -m sam4mllm.cli finetune …` uses all.", args.n_gpu)
    args._n_gpu = 1  # as the Trainer itself does where a model is spread over devices


def _refuse_sharded(trainer: SFTTrainer) -> None:
    if trainer.is_fsdp_enabled:
        raise UserError("held-out samples cannot be asked while FSDP spreads the weights: leave held_out out")


def _check_base(card: Card, checkpoints: Path) -> None:
    """Note in the folder of checkpoints which base they are of, and refuse whole ones of another."""
    noted = Card.read(checkpoints) if last_whole(checkpoints) else None
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
        write_model_card(out, card, trainer.state.log_history, adapter)
    if PartialState().is_main_process and is_finished(out):
        log.warning("The weights are those that %s holds already: its %s is left as it is.", out, CARD)
    elif PartialState().is_main_process:
        _remove_card(out, card)
        if not adapter:
            model.config.sam4mllm_dialect = card.dialect
            mllm.processor.save_pretrained(out)
        model.save_pretrained(out, state_dict=weights)
        card.write(out)  # the last, so that it is never beside other weights than its own
    PartialState().wait_for_everyone()
    if adapter:
        settled(model)


def is_finished(out: Path) -> bool:
    """Whether a folder holds what its run had learned after the last step, and a card, which may know more by now."""
    last = last_whole(out / CHECKPOINTS)
    if last is None or not is_of_last_step(last) or not (out / CARD).is_file():
        return False
    pairs = [(file, out / file.name) for file in last.glob("*.safetensors")]
    return bool(pairs) and all(ours.is_file() and filecmp.cmp(file, ours, shallow=False) for file, ours in pairs)


def _remove_card(out: Path, card: Card) -> None:
    """Take away the card of weights that are written over, and say what it knew that the new one does not."""
    before = Card.read(out)
    for name, options in before.prompters.items() if before else ():
        if options and options != card.options(name):
            told = ", ".join(f"{option} {value}" for option, value in options.items())
            log.warning("%s receives other weights: options of %s are dropped (%s).", out, name, told)
    (out / CARD).unlink(missing_ok=True)


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
