"""Trains an adapter by a recipe, for `sam4mllm finetune`.

The recipe is saved with the weights as ``recipe.yaml``, which can be run again:

    out: out/lora
    mllm: owner/name
    data: [{samples: data/refcoco/train, targets: data/refcoco/targets}]
    training: {max_steps: 2000, per_device_train_batch_size: 8, lora: {r: 16}}
    validation: {samples: data/refcoco/val, segmenter: facebook/sam-vit-huge, count: 64, every: 200}
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import yaml

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.runtime.files import check_folder, lock_folder, write_text
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import first_process, process_count, process_number
from sam4mllm.training.dataset.corpus import Corpus, first_ids
from sam4mllm.training.dataset.rows import TrainingRows
from sam4mllm.training.failures import memory_errors_as_user_errors
from sam4mllm.training.lora import lora_config
from sam4mllm.training.prepare import make_card, read_chat_template, read_corpus
from sam4mllm.training.resume import check_resumable, identity_of, write_record
from sam4mllm.training.trainer import finetune, is_finished
from sam4mllm.training.validation import check_images, choose_samples, make_scoring

log = logging.getLogger(__name__)
RECIPE = "recipe.yaml"


def run(recipe: FinetuneConfig, resume: bool = False) -> Path:
    """Train, or resume the same run if it was stopped, and return the adapter's folder. It is locked during the run.

    Names, folders and image files are checked before the model is loaded. Which images are used depends on the
    model's tokens, so these are read after the model is loaded and before anything is written.

    Args:
        recipe: the recipe.
        resume: whether the folder must contain a run to resume.

    Raises:
        UserError: if a value is not valid, the folder belongs to another run or its weights would be overwritten, or
            the training ends early.
    """
    check_folder(Path(recipe.out))
    with memory_errors_as_user_errors(), lock_folder(Path(recipe.out)) if first_process() else nullcontext():
        return _run(recipe, resume)


def _run(recipe: FinetuneConfig, resume: bool) -> Path:
    corpus, out, card = read_corpus(recipe), Path(recipe.out), make_card(recipe)
    identity = identity_of(recipe.to_yaml(), recipe.training.rows_per_step(process_count()))
    if first_process():
        check_resumable(out, identity, resume)
    if is_finished(out):
        log.warning("All steps are done: the adapter in %s is not changed.", out)
        return out
    samples = choose_samples(recipe.validation) if recipe.validation else None
    if samples is not None:
        check_images(samples)
        _warn_of_training_images(corpus, samples)
    mllm = _load_mllm(recipe)
    rows = TrainingRows(corpus, recipe.rows, mllm, mllm.lengths)
    training = recipe.training.in_steps(rows.rows_in, process_count())
    count = (training.max_steps or 0) * training.rows_per_step(process_count())
    rows.check_pictures(count, process_number(), process_count())
    if first_process():
        write_record(out, identity)
        write_text(out / RECIPE, yaml.safe_dump(recipe.to_yaml(), sort_keys=False))
    scoring = None
    if recipe.validation and samples:
        options = card.options(recipe.validation.prompter)
        scoring = make_scoring(recipe.validation, samples, mllm, options, out / "validation", recipe.device)
    return finetune(mllm, rows.row, training, out, card=card, scoring=scoring)


def _load_mllm(recipe: FinetuneConfig) -> HfMLLM:
    """Load the base, and check that the LoRA fits it."""
    mllm = MLLMSpec(
        recipe.mllm,
        dialect=recipe.dialect,
        device=recipe.device,
        dtype=recipe.dtype,
        attention=recipe.attention,
        four_bits=recipe.training.quantize is not None,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=read_chat_template(recipe),
    ).load()
    if not isinstance(mllm, HfMLLM):
        raise UserError(f"{recipe.mllm} is not a transformers model and cannot be trained")
    if recipe.training.lora is not None:
        lora_config(mllm.model, recipe.training.lora)
    return mllm


def _warn_of_training_images(corpus: Corpus, samples: SampleSet) -> None:
    ids = corpus.ids_with_training_images(samples)
    if ids:
        share = f"{len(ids)} of {len(samples)} validation samples use training images"
        log.warning("%s; their scores are optimistic: %s.", share, first_ids(ids))
