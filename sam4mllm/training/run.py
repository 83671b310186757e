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
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from sam4mllm import __version__
from sam4mllm.runtime.files import alone, check_folder, write_text
from sam4mllm.runtime.specs import TINY, build_mllm, check_dtype, check_mllm, check_prompter
from sam4mllm.training.dataset.rows import Conversations
from sam4mllm.errors import UserError
from sam4mllm.training.trainer import finetune, is_finished
from sam4mllm.runtime.provenance import data
from sam4mllm.training.validation import HeldOut, asked, check_pictures, watcher
from sam4mllm.mllm.adapter_card import Card
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.quantized import check_four_bits
from sam4mllm.training.dataset.mixture import Rows
from sam4mllm.training.resume import check_begun, identity_of, note
from sam4mllm.data.samples import SampleSet
from sam4mllm.training.dataset.corpus import Corpus, Source, check_files, corpus, read_sources, some
from sam4mllm.training.failures import enough_memory
from sam4mllm.training.lora import check_targets
from sam4mllm.training.config import Training, check_reports, first_process, process_count, process_number

log = logging.getLogger(__name__)
RECIPE = "recipe.yaml"
LIBRARIES = ("torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class PqppOptions:
    """How `infer` and `predict` ask an adapter by PQPP where nothing else is said; its own defaults where None."""

    layout: str | None = None
    points: int | None = None
    sure_yes: float | None = None
    sure_no: float | None = None
    ask: str | None = None

    def __post_init__(self) -> None:
        check_prompter("pqpp", self.given)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are said."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class FinetuneRecipe:
    """All that makes an adapter.

    Attributes:
        out: the adapter's folder; its checkpoints lie in ``out/checkpoints``.
        mllm: a folder or hub name of a transformers model.
        data: the sources that it is taught from.
        training: how to train.
        dialect: how the MLLM writes places; found from its configuration where None.
        device: as torch names it; the best there is where None.
        dtype: of the base's weights, as torch names it, or ``auto`` for the checkpoint's own.
        attention: the attention implementation, as transformers names it.
        trust_remote_code: whether code that comes with the MLLM may run.
        chat_template: a Jinja file in place of the MLLM's own template; an adapter keeps its text.
        rows: what the rows hold.
        pqpp: how an adapter is asked by PQPP.
        held_out: samples that are asked while it runs; none where None.
    """

    out: str
    mllm: str
    data: tuple[Source, ...]
    training: Training
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    rows: Rows = field(default_factory=Rows)
    pqpp: PqppOptions = field(default_factory=PqppOptions)
    held_out: HeldOut | None = None


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


def card_of(recipe: FinetuneRecipe) -> Card:
    """What an adapter of this recipe says of itself; its base's fingerprint and its dialect are added in training.

    PQPP's options stand beside PPG's numbers of points; thresholds that nobody said are not known before they are
    measured.
    """
    local = recipe.mllm != TINY and Path(recipe.mllm).is_dir()
    folders = (folder for one in recipe.data for folder in (one.samples, one.targets, one.talks) if folder)
    return Card(
        base="",
        dialect="",
        base_name=str(Path(recipe.mllm).resolve()) if local else recipe.mllm,
        prompters={
            "ppg": {"positive": recipe.rows.positive, "negative": recipe.rows.negative},
            "pqpp": recipe.pqpp.given,
        },
        data=data(folders),
        versions={"sam4mllm": __version__, **{name: version(name) for name in LIBRARIES}},
        chat_template=template_of(recipe),
    )


def template_of(recipe: FinetuneRecipe) -> str | None:
    """The text of the recipe's chat template, where it has one.

    Raises:
        UserError: for a file that cannot be read.
    """
    if recipe.chat_template is None:
        return None
    try:
        return Path(recipe.chat_template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the chat template {recipe.chat_template}: {error}") from error


def prepared(recipe: FinetuneRecipe) -> Corpus:
    """What the recipe teaches, once all of it is checked that can be without the model.

    Raises:
        UserError: as `run` does.
    """
    if recipe.training.quantize is not None:
        check_four_bits()
    return taught_by(recipe)


def taught_by(recipe: FinetuneRecipe) -> Corpus:
    """What the recipe teaches, once its names are checked, and that the files are there.

    Raises:
        UserError: for whatever of that cannot be used.
    """
    check_mllm(recipe.mllm, dialect=recipe.dialect)
    check_dtype(recipe.dtype)
    check_reports(recipe.training.report_to)
    template_of(recipe)
    found = corpus(read_sources(recipe.data), recipe.rows)
    check_files(found)
    return found


def _warn_of_known(taught: Corpus, held_out: SampleSet) -> None:
    known = taught.known(held_out)
    if known:
        said = f"{len(known)} of the {len(held_out)} held-out samples are about pictures that are learned from"
        log.warning("%s, which their figures flatter: %s.", said, some(known))
