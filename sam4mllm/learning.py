"""What `sam4mllm finetune` does: a recipe to an adapter. Knows no model and no data set.

The recipe lies beside the weights as ``recipe.yaml``, and is one itself:

    out: out/lora
    mllm: owner/name
    samples: data/refcoco/train
    training: {steps: 2000, batch: 8, ...}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import yaml

from sam4mllm.atomic import check_folder, write_text
from sam4mllm.builders import build_mllm, check_dtype, check_mllm
from sam4mllm.conversations import Conversations, Rows
from sam4mllm.errors import UserError
from sam4mllm.finetune import Training, finetune
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.samples import read_samples
from sam4mllm.settings import load
from sam4mllm.target_shards import read_targets

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class FinetuneRecipe:
    """All that makes an adapter.

    Attributes:
        out: the adapter's folder; its checkpoints lie in ``out/checkpoints``.
        mllm: a folder or hub name of a transformers model.
        samples: a folder of samples.
        training: how to train.
        targets: a folder of targets for these samples, which PPG rows then say; random clicks where None.
        images: the root of the pictures, where they were moved.
        dialect: how the MLLM writes places; found from its configuration where None.
        device: as torch names it; the best there is where None.
        dtype: of the base's weights, as torch names it, or ``auto`` for the checkpoint's own.
        attention: the attention implementation, as transformers names it.
        trust_remote_code: whether code that comes with the MLLM may run.
        rows: what the rows hold.
    """

    out: str
    mllm: str
    samples: str
    training: Training
    targets: str | None = None
    images: str | None = None
    dialect: str | None = None
    device: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    rows: Rows = field(default_factory=Rows)


def run(recipe: FinetuneRecipe) -> Path:
    """Train, or go on where a stopped run of the same recipe was; returns the adapter's folder.

    Names, folders and the pictures that will be shown are checked before the model is loaded, and nothing is written
    before it is.

    Raises:
        UserError: for whatever in the recipe cannot be used, and a folder in which another recipe was begun.
    """
    conversations = prepared(recipe)
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
    out = Path(recipe.out)
    write_text(out / RECIPE, yaml.safe_dump(asdict(recipe), sort_keys=False))
    return finetune(mllm, partial(conversations.row, mllm), recipe.training, out)


def prepared(recipe: FinetuneRecipe) -> Conversations:
    """What the recipe teaches, once all of it is checked that can be without the model.

    Raises:
        UserError: as `run` does.
    """
    check_mllm(recipe.mllm, dialect=recipe.dialect)
    check_dtype(recipe.dtype)
    _check_out(recipe)
    samples = read_samples(Path(recipe.samples), Path(recipe.images) if recipe.images else None)
    targets = read_targets(Path(recipe.targets)) if recipe.targets else None
    conversations = Conversations(samples, recipe.rows, targets)
    training = recipe.training
    conversations.check_pictures(training.steps * training.batch * training.accumulate)
    return conversations


def _check_out(recipe: FinetuneRecipe) -> None:
    """Refuse a folder that cannot be written, or in which another recipe was begun: its checkpoints are another's."""
    out = Path(recipe.out)
    check_folder(out)
    if any((out / "checkpoints").glob("checkpoint-*")) and load(out / RECIPE, FinetuneRecipe) != recipe:
        raise UserError(f"{out} was begun with another recipe, see {out / RECIPE}: give that, or another out")
