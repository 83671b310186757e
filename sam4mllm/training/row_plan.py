"""What a training will be shown, told before it begins: rows by source and way, their tokens, the longest of them.

No picture is read. Knows nothing of models and of how it is printed.

    >>> row_plan(conversations, mllm.lengths, counted=500).rows[0]
    RowCount(source='data/refcoco/train', kind='ppg', rows=10234, items=31870)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam4mllm.training.dataset.rows import Conversations
from sam4mllm.training.dataset.token_budget import Lengths
from sam4mllm.training.dataset.mixture import KINDS
from sam4mllm.training.dataset.corpus import LeftOut


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
    some = range(len(conversations) if counted is None else min(counted, len(conversations)))
    sizes = [lengths.conversation(conversations.turns(index)) for index in some]
    pictures = lengths.pictures(_sizes(conversations))
    return RowPlan(
        _counts(conversations),
        tuple(total for total, _ in sizes),
        tuple(pictures[index] for index in some),
        sum(learned for _, learned in sizes),
        _longest(conversations, lengths, pictures, longest),
        conversations.corpus.left_out,
    )


def _counts(conversations: Conversations) -> tuple[RowCount, ...]:
    epoch, corpus = conversations.epoch(0), conversations.corpus
    source, sizes = corpus.source[epoch.items[epoch.starts[:-1]]], np.diff(epoch.starts)
    return tuple(
        RowCount(part.name, kind, int(own.sum()), int(sizes[own].sum()))
        for number, part in enumerate(corpus.parts)
        for at, kind in enumerate(KINDS)
        if (own := (source == number) & (epoch.kind == at)).any()
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
    found = [
        LongRow(
            index,
            lengths.conversation(conversations.turns(index))[0],
            pictures[index],
            tuple(item.id for item in conversations.plan(index).items),
        )
        for index in np.argsort(-planned, kind="stable")[:count].tolist()
    ]
    return tuple(sorted(found, key=lambda row: -row.tokens - row.picture))
