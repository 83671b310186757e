"""The plan of a training, for `sam4mllm finetune --plan`: steps, rows, tokens, trained weights and memory.

Reads the model's configuration and processor, no weights and no images, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import model_at
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import process_count
from sam4mllm.training.dataset.corpus import LeftOut
from sam4mllm.training.dataset.mixture import KINDS
from sam4mllm.training.dataset.rows import Conversations
from sam4mllm.training.dataset.token_budget import Lengths
from sam4mllm.training.memory import Shape, shape_of
from sam4mllm.training.prepare import read_chat_template, read_corpus
from sam4mllm.training.validation import choose_samples

COUNTED = 1000  # rows that are written out, which takes about a second; more change no share by a hundredth


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training.

    Attributes:
        mllm: the model, as the recipe names it.
        dialect: how it will write places.
        rows: the rows of the first epoch.
        budget: the most tokens of a conversation beside its image.
        shape: what is trained, and the memory of a step on the longest row.
        steps: optimizer steps of the whole training.
        rows_per_step: of all processes together.
        epochs: passes over the data.
        validation: the number of validation samples.
        known: the ids of those of them that use training images.
    """

    mllm: str
    dialect: str
    rows: RowPlan
    budget: int
    shape: Shape
    steps: int
    rows_per_step: int
    epochs: float
    validation: int
    known: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All values, with the peak of a step's memory."""
        values = asdict(self)
        values["shape"]["memory"]["peak"] = self.shape.memory.peak
        return values


def make_plan(recipe: FinetuneConfig) -> TrainingPlan:
    """The plan of a recipe; a training that needs a GPU can be planned without one.

    Raises:
        UserError: for a value that cannot be used.
    """
    if recipe.mllm.startswith("replay:"):
        raise UserError(f"{recipe.mllm} is no model, and cannot be trained")
    corpus = read_corpus(recipe, plan_only=True)
    samples = choose_samples(recipe.validation) if recipe.validation else None
    mllm = HfMLLM.outline(
        model_at(recipe.mllm),
        dialect=recipe.dialect,
        dtype=recipe.dtype,
        attention=recipe.attention,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=read_chat_template(recipe),
    )
    conversations = Conversations(corpus, recipe.rows, mllm, mllm.lengths)
    rows = row_plan(conversations, mllm.lengths, COUNTED)
    processes = process_count()
    training = recipe.training.in_steps(conversations.rows_in, processes)
    assert training.max_steps is not None  # epochs are converted
    longest = max(row.tokens + row.picture for row in rows.longest)
    rows_per_step = training.rows_per_step(processes)
    return TrainingPlan(
        recipe.mllm,
        mllm.dialect.name,
        rows,
        recipe.rows.tokens,
        shape_of(mllm.model, training, longest),
        training.max_steps,
        rows_per_step,
        training.max_steps * rows_per_step / len(conversations),
        len(samples) if samples else 0,
        corpus.known(samples) if samples else (),
    )


@dataclass(frozen=True, slots=True)
class RowCount:
    """How many rows of the first epoch are of one source and kind, and how many expressions or talks are in them."""

    source: str
    kind: str
    rows: int
    items: int


@dataclass(frozen=True, slots=True)
class LongRow:
    """A row by its number, its tokens with those of its picture, and the ids of what is in it."""

    index: int
    tokens: int
    picture: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What a training will be shown.

    Attributes:
        rows: of the first epoch, by source and kind, as the sources and `KINDS` are ordered.
        tokens: of each row that was counted, from the user's first word on, of which there is a budget.
        pictures: the tokens of each of these rows' picture, and what else comes before that word.
        supervised: how many of all these tokens are learned from.
        longest: of the epoch with their pictures, the longest first; chosen by what was planned of their text.
        left_out: what is not used, and why.
    """

    rows: tuple[RowCount, ...]
    tokens: tuple[int, ...]
    pictures: tuple[int, ...]
    supervised: int
    longest: tuple[LongRow, ...]
    left_out: tuple[LeftOut, ...]


def row_plan(conversations: Conversations, lengths: Lengths, counted: int | None = None, longest: int = 10) -> RowPlan:
    """The plan of the first epoch.

    Args:
        conversations: the rows.
        lengths: of texts in the model's tokens.
        counted: how many rows are written out and their tokens counted, the first ones (they come in random order);
            all where None.
        longest: how many are named: those that were planned as the longest, by the tokens that they really take.
    """
    counted_rows = range(len(conversations) if counted is None else min(counted, len(conversations)))
    sizes = [lengths.conversation(conversations.turns(index)) for index in counted_rows]
    pictures = lengths.pictures(_sizes(conversations))
    return RowPlan(
        _counts(conversations),
        tuple(total for total, _ in sizes),
        tuple(pictures[index] for index in counted_rows),
        sum(learned for _, learned in sizes),
        _longest(conversations, lengths, pictures, longest),
        conversations.corpus.left_out,
    )


def _counts(conversations: Conversations) -> tuple[RowCount, ...]:
    epoch, corpus = conversations.epoch(0), conversations.corpus
    source, sizes = corpus.source[epoch.items[epoch.starts[:-1]]], np.diff(epoch.starts)
    return tuple(
        RowCount(part.name, kind, int(chosen.sum()), int(sizes[chosen].sum()))
        for number, part in enumerate(corpus.parts)
        for at, kind in enumerate(KINDS)
        if (chosen := (source == number) & (epoch.kind == at)).any()
    )


def _sizes(conversations: Conversations) -> list[tuple[int, int]]:
    """The width and the height of each row's picture."""
    epoch, items = conversations.epoch(0), conversations.corpus.items
    first = [items[number] for number in epoch.items[epoch.starts[:-1]].tolist()]
    return [(item.width, item.height) for item in first]


def _longest(
    conversations: Conversations, lengths: Lengths, pictures: Sequence[int], count: int
) -> tuple[LongRow, ...]:
    planned = conversations.epoch(0).cost + np.array(pictures, dtype=np.int64)
    rows = [
        LongRow(
            index,
            lengths.conversation(conversations.turns(index))[0],
            pictures[index],
            tuple(item.id for item in conversations.plan(index).items),
        )
        for index in np.argsort(-planned, kind="stable")[:count].tolist()
    ]
    return tuple(sorted(rows, key=lambda row: -row.tokens - row.picture))
