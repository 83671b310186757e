"""What `sam4mllm finetune` does: a recipe to an adapter. Knows no model and no data set.

The recipe lies beside the weights as ``recipe.yaml``, and is one itself:

    out: out/lora
    mllm: owner/name
    data: [{samples: data/refcoco/train, targets: data/refcoco/targets}]
    training: {steps: 2000, batch: 8, ...}
    held_out: {samples: data/refcoco/val, segmenter: facebook/sam-vit-huge, count: 64, every: 200}
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import yaml

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import build_mllm
from sam4mllm.runtime.files import alone, check_folder, write_text
from sam4mllm.training.config import first_process, process_count, process_number
from sam4mllm.training.dataset.corpus import Corpus, some
from sam4mllm.training.dataset.rows import Conversations
from sam4mllm.training.failures import enough_memory
from sam4mllm.training.lora import check_targets
from sam4mllm.training.recipe import FinetuneRecipe, card_of, prepared, template_of
from sam4mllm.training.resume import check_begun, identity_of, note
from sam4mllm.training.trainer import finetune, is_finished
from sam4mllm.training.validation import asked, check_pictures, watcher

log = logging.getLogger(__name__)
RECIPE = "recipe.yaml"


def run(recipe: FinetuneRecipe, resume: bool = False) -> Path:
    """Train, or go on where a stopped run was that learned the same; returns the adapter's folder, which is this run's
    alone meanwhile.

    Names, folders and that the pictures are there are checked before the model is loaded. Which of them are shown
    depends on how many tokens its words are; those are read once it is there, before anything is written.

    Args:
        recipe: what, and how.
        resume: whether a run must have been begun there.

    Raises:
        UserError: for whatever in the recipe cannot be used, a folder that another run is writing, in which another run
            was begun, or whose weights would be written over; and for whatever ends the training early.
    """
    check_folder(Path(recipe.out))
    with enough_memory(), alone(Path(recipe.out)) if first_process() else nullcontext():
        return _run(recipe, resume)


def _run(recipe: FinetuneRecipe, resume: bool) -> Path:
    taught, processes = prepared(recipe), process_count()
    out, card = Path(recipe.out), card_of(recipe)
    identity = identity_of(asdict(recipe), recipe.training.rows_a_step(processes))
    if first_process():
        check_begun(out, identity, resume)
    if is_finished(out):
        log.warning("All steps are done: %s holds what was learned, and is left as it is.", out)
        return out
    held_out = recipe.held_out.chosen() if recipe.held_out else None
    if held_out is not None:
        check_pictures(held_out)
        _warn_of_known(taught, held_out)
    mllm = build_mllm(
        recipe.mllm,
        dialect=recipe.dialect,
        device=recipe.device,
        dtype=recipe.dtype,
        attention=recipe.attention,
        four_bits=recipe.training.quantize is not None,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=template_of(recipe),
    )
    if not isinstance(mllm, HfMLLM):
        raise UserError(f"{recipe.mllm} is no model, and cannot be trained")
    if recipe.training.lora is not None:
        check_targets(mllm.model, recipe.training.lora)
    conversations = Conversations(taught, recipe.rows, mllm, mllm.lengths)
    training = recipe.training.in_steps(conversations.rows_in, processes)
    conversations.check_pictures((training.steps or 0) * training.rows_a_step(processes), process_number(), processes)
    if first_process():
        note(out, identity)
        write_text(out / RECIPE, yaml.safe_dump(asdict(recipe), sort_keys=False))
    if recipe.held_out is None or held_out is None:
        return finetune(mllm, conversations.row, training, out, card=card)
    options = card.options(recipe.held_out.prompter)
    watch = watcher(recipe.held_out, held_out, mllm, options, out / "held_out", recipe.device)
    every, how = recipe.held_out.every, asked(recipe.held_out, held_out, options)
    return finetune(mllm, conversations.row, training, out, card=card, watch=watch, watch_every=every, asked=how)


def _warn_of_known(taught: Corpus, held_out: SampleSet) -> None:
    known = taught.known(held_out)
    if known:
        said = f"{len(known)} of the {len(held_out)} held-out samples are about pictures that are learned from"
        log.warning("%s, which their figures flatter: %s.", said, some(known))
