"""What `sam4mllm finetune` does: a recipe to an adapter. Knows no model and no data set.

The recipe lies beside the weights as ``recipe.yaml``, and is one itself:

    out: out/lora
    mllm: owner/name
    data: [{samples: data/refcoco/train, targets: data/refcoco/targets}]
    training: {steps: 2000, batch: 8, ...}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from sam4mllm.atomic import check_folder, write_text
from sam4mllm.builders import build_mllm, check_dtype, check_mllm
from sam4mllm.conversations import Conversations
from sam4mllm.errors import UserError
from sam4mllm.finetune import Training, finetune
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.rows import Rows
from sam4mllm.settings import load
from sam4mllm.sources import Corpus, Source, check_files, corpus, read_sources

RECIPE = "recipe.yaml"


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
        rows: what the rows hold.
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
    rows: Rows = field(default_factory=Rows)


def run(recipe: FinetuneRecipe) -> Path:
    """Train, or go on where a stopped run of the same recipe was; returns the adapter's folder.

    Names, folders and that the pictures are there are checked before the model is loaded. Which of them are shown
    depends on how many tokens its words are; those are read once it is there, before anything is written.

    Raises:
        UserError: for whatever in the recipe cannot be used, and a folder in which another recipe was begun.
    """
    taught = prepared(recipe)
    mllm = build_mllm(
        recipe.mllm,
        dialect=recipe.dialect,
        device=recipe.device,
        dtype=recipe.dtype,
        attention=recipe.attention,
        trust_remote_code=recipe.trust_remote_code,
    )
    if not isinstance(mllm, HfMLLM):
        raise UserError(f"{recipe.mllm} is no model, and cannot be trained")
    conversations, training = Conversations(taught, recipe.rows, mllm, mllm.lengths), recipe.training
    conversations.check_pictures(training.steps * training.batch * training.accumulate)
    out = Path(recipe.out)
    write_text(out / RECIPE, yaml.safe_dump(asdict(recipe), sort_keys=False))
    return finetune(mllm, conversations.row, training, out)


def prepared(recipe: FinetuneRecipe) -> Corpus:
    """What the recipe teaches, once all of it is checked that can be without the model.

    Raises:
        UserError: as `run` does.
    """
    check_mllm(recipe.mllm, dialect=recipe.dialect)
    check_dtype(recipe.dtype)
    _check_out(recipe)
    found = corpus(read_sources(recipe.data), recipe.rows)
    check_files(found)
    return found


def _check_out(recipe: FinetuneRecipe) -> None:
    """Refuse a folder that cannot be written, or in which another recipe was begun: its checkpoints are another's."""
    out = Path(recipe.out)
    check_folder(out)
    if any((out / "checkpoints").glob("checkpoint-*")) and load(out / RECIPE, FinetuneRecipe) != recipe:
        raise UserError(f"{out} was begun with another recipe, see {out / RECIPE}: give that, or another out")
