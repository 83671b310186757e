"""The plan of a training, for `sam4mllm finetune --plan`: steps, rows, tokens, trained weights and memory.

Reads the model's configuration and processor, no weights and no images, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.config.training import process_count
from sam4mllm.training.dataset.corpus import LeftOut
from sam4mllm.training.dataset.mixture import KINDS
from sam4mllm.training.dataset.rows import TrainingRows
from sam4mllm.training.dataset.token_budget import Lengths
from sam4mllm.training.memory import Shape, estimate_shape
from sam4mllm.training.prepare import read_chat_template, read_corpus
from sam4mllm.training.validation import choose_samples

COUNTED = 1000  # rows to count tokens of, in about a second; with more rows no share changes by 0.01


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training.

    Attributes:
        mllm: the model, as the recipe names it.
        dialect: the notation for places.
        rows: the rows of the first epoch.
        budget: the maximum number of tokens of a row, without its image.
        shape: what is trained, and the memory of a step on the longest row.
        steps: number of optimizer steps.
        rows_per_step: rows per step over all processes.
        epochs: passes over the data.
        validation: the number of validation samples.
        known: the ids of validation samples that use training images.
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
        """All values as JSON, with the peak memory of a step."""
        values = asdict(self)
        values["shape"]["memory"]["peak"] = self.shape.memory.peak
        return values


def make_plan(recipe: FinetuneConfig) -> TrainingPlan:
    """The plan of a recipe; no GPU is needed.

    Raises:
        UserError: if a value of the recipe is not valid.
    """
    MLLMSpec(recipe.mllm).path  # noqa: B018  refuses models that cannot be trained, before the data is read
    corpus = read_corpus(recipe, plan_only=True)
    samples = choose_samples(recipe.validation) if recipe.validation else None
    mllm = HfMLLM.outline(
        MLLMSpec(recipe.mllm).path,
        dialect=recipe.dialect,
        dtype=recipe.dtype,
        attention=recipe.attention,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=read_chat_template(recipe),
    )
    conversations = TrainingRows(corpus, recipe.rows, mllm, mllm.lengths)
    rows = row_plan(conversations, mllm.lengths, COUNTED)
    training = recipe.training.in_steps(conversations.rows_in, process_count())
    assert training.max_steps is not None  # in_steps converts epochs
    longest = max(row.tokens + row.image_tokens for row in rows.longest)
    rows_per_step = training.rows_per_step(process_count())
    return TrainingPlan(
        recipe.mllm,
        mllm.dialect.name,
        rows,
        recipe.rows.tokens,
        estimate_shape(mllm.model, training, longest),
        training.max_steps,
        rows_per_step,
        training.max_steps * rows_per_step / len(conversations),
        len(samples) if samples else 0,
        corpus.ids_with_training_images(samples) if samples else (),
    )


@dataclass(frozen=True, slots=True)
class RowCount:
    """The number of rows of a source and kind in the first epoch, and of the expressions or conversations in them."""

    source: str
    kind: str
    rows: int
    items: int


@dataclass(frozen=True, slots=True)
class LongRow:
    """A row's number, the tokens of its text and of its image, and the ids of its items."""

    index: int
    tokens: int
    image_tokens: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The rows of the first epoch and their tokens.

    Attributes:
        rows: number of rows by source and kind, in the order of the sources and `KINDS`.
        tokens: for each counted row, the tokens from the first user text on, which the budget limits.
        image_tokens: for each counted row, the tokens before the first user text, which are mainly those of the image.
        supervised: the number of supervised tokens in the counted rows.
        longest: the longest rows including image tokens, the longest first; selected by planned tokens.
        left_out: items that are not used, and the reasons.
    """

    rows: tuple[RowCount, ...]
    tokens: tuple[int, ...]
    image_tokens: tuple[int, ...]
    supervised: int
    longest: tuple[LongRow, ...]
    left_out: tuple[LeftOut, ...]


def row_plan(conversations: TrainingRows, lengths: Lengths, counted: int | None = None, longest: int = 10) -> RowPlan:
    """The plan of the first epoch.

    Args:
        conversations: the rows.
        lengths: counts the model's tokens.
        counted: number of rows to count tokens of. These are the first rows, and rows are in random order. None
            counts all rows.
        longest: the number of longest rows to report; they are selected by planned tokens and sorted by counted tokens.
    """
    counted_rows = range(len(conversations) if counted is None else min(counted, len(conversations)))
    sizes = [lengths.conversation(conversations.turns(index)) for index in counted_rows]
    epoch = conversations.epoch(0)
    first_items = [conversations.corpus.items[number] for number in epoch.items[epoch.starts[:-1]].tolist()]
    image_tokens = lengths.image_tokens([(item.width, item.height) for item in first_items])
    return RowPlan(
        _count_rows(conversations),
        tuple(total for total, _ in sizes),
        tuple(image_tokens[index] for index in counted_rows),
        sum(supervised for _, supervised in sizes),
        _longest(conversations, lengths, image_tokens, longest),
        conversations.corpus.left_out,
    )


def _count_rows(conversations: TrainingRows) -> tuple[RowCount, ...]:
    epoch, corpus = conversations.epoch(0), conversations.corpus
    source, sizes = corpus.source[epoch.items[epoch.starts[:-1]]], np.diff(epoch.starts)
    return tuple(
        RowCount(part.name, kind, int(chosen.sum()), int(sizes[chosen].sum()))
        for number, part in enumerate(corpus.parts)
        for index, kind in enumerate(KINDS)
        if (chosen := (source == number) & (epoch.kind == index)).any()
    )


def _longest(
    conversations: TrainingRows, lengths: Lengths, image_tokens: Sequence[int], count: int
) -> tuple[LongRow, ...]:
    planned = conversations.epoch(0).cost + np.array(image_tokens, dtype=np.int64)
    rows = []
    for index in np.argsort(-planned, kind="stable")[:count].tolist():
        tokens, items = lengths.conversation(conversations.turns(index))[0], conversations.plan(index).items
        rows.append(LongRow(index, tokens, image_tokens[index], tuple(item.id for item in items)))
    return tuple(sorted(rows, key=lambda row: -row.tokens - row.image_tokens))
