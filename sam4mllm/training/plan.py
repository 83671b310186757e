"""What `sam4mllm finetune --plan` tells: a recipe to what its training will be, before any of it.

No weights are read, no picture is, and nothing is written: the model's configuration and processor are enough. Knows
nothing of how a plan is printed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sam4mllm.runtime.specs import model_at
from sam4mllm.training.dataset.rows import Conversations
from sam4mllm.errors import UserError
from sam4mllm.training.run import FinetuneRecipe, taught_by, template_of
from sam4mllm.training.memory import Shape, shape_of
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.row_plan import RowPlan, row_plan
from sam4mllm.training.config import process_count

COUNTED = 1000  # rows that are written out, which takes about a second; more change no share by a hundredth


@dataclass(frozen=True)
class TrainingPlan:
    """What a training will be.

    Attributes:
        mllm: the model, as the recipe names it.
        dialect: in which it is taught.
        rows: what it is shown.
        budget: tokens that a conversation may take beside its picture.
        shape: what is trained, and what a step on the longest row takes.
        steps: of the whole training.
        a_step: conversations that are learned from in each, by all processes.
        epochs: how often that goes through the data.
        held_out: how many samples are asked while it runs.
        known: the ids of those of them whose pictures are learned from.
    """

    mllm: str
    dialect: str
    rows: RowPlan
    budget: int
    shape: Shape
    steps: int
    a_step: int
    epochs: float
    held_out: int
    known: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, with the peak of a step's memory."""
        whole = asdict(self)
        whole["shape"]["memory"]["peak"] = self.shape.memory.peak
        return whole


def planned(recipe: FinetuneRecipe) -> TrainingPlan:
    """The plan of a recipe; a training that it refuses later for want of a GPU can be planned.

    Raises:
        UserError: for whatever in the recipe cannot be used.
    """
    if recipe.mllm.startswith("replay:"):
        raise UserError(f"{recipe.mllm} is no model, and cannot be trained")
    taught = taught_by(recipe)
    held_out = recipe.held_out.chosen() if recipe.held_out else None
    mllm = HfMLLM.outline(
        model_at(recipe.mllm),
        dialect=recipe.dialect,
        dtype=recipe.dtype,
        attention=recipe.attention,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=template_of(recipe),
    )
    conversations = Conversations(taught, recipe.rows, mllm, mllm.lengths)
    rows = row_plan(conversations, mllm.lengths, COUNTED)
    processes = process_count()
    training = recipe.training.in_steps(conversations.rows_in, processes)
    assert training.steps is not None  # they are counted
    longest = max(row.tokens + row.picture for row in rows.longest)
    a_step = training.rows_a_step(processes)
    return TrainingPlan(
        recipe.mllm,
        mllm.dialect.name,
        rows,
        recipe.rows.tokens,
        shape_of(mllm.model, training, longest),
        training.steps,
        a_step,
        training.steps * a_step / len(conversations),
        len(held_out) if held_out else 0,
        taught.known(held_out) if held_out else (),
    )
