"""How likely each option is after each question: many questions over one cached prefix, each as if asked alone.

What all questions begin with is fed once. Their rest is packed into one row where every layer attends to all it is
given (a mask hides the questions from each other, and each begins at the same position), and laid in repeated rows
otherwise. Chunked to a bound on the cached tokens that one forward pass holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sam4mllm.mllm.hf.prefix import Prefix, feed

Ids = Sequence[int]


def common_start(rows: Sequence[Ids]) -> int:
    """How many ids all rows begin with."""
    for index, column in enumerate(zip(*rows, strict=False)):
        if len(set(column)) > 1:
            return index
    return min(map(len, rows))


@dataclass(frozen=True)
class Branch:
    """One forward path: a question's own ids, and the ids of an option's beginning after them."""

    question: int
    ids: tuple[int, ...]
    given: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.ids, *self.given)


def choose(
    model: Any, prefix: Prefix, questions: Sequence[Ids], options: Sequence[Ids], bound: int, packed: bool
) -> Float[np.ndarray, "questions options"]:
    """The softmax over the options' summed token log-probabilities, one row per question.

    Args:
        model: the model that the prefix was filled by.
        prefix: one row; used up.
        questions: the ids of each question, from the prefix to where the reply begins; at least one.
        options: the ids of each option, none the beginning of another.
        bound: how many cached and new tokens one forward pass may hold.
        packed: whether questions may share a row.
    """
    shared = min(common_start(questions), min(map(len, questions)) - 1)
    if shared:
        feed(model, prefix, torch.tensor([questions[0][:shared]], device=prefix.mask.device))
    told = [_telling(option, options) for option in options]
    branches = [
        Branch(index, tuple(ids[shared:]), given)
        for (index, ids), given in product(enumerate(questions), dict.fromkeys(option[:-1] for option in told))
    ]
    score = _score_packed if packed else _score_repeated
    chunks = _packs(branches, prefix.width, bound) if packed else _batches(branches, prefix.width, bound)
    logs = np.full((len(questions), len(options)), -np.inf)
    for chunk in chunks:
        for branch, found in zip(chunk, score(model, prefix, chunk), strict=True):
            for column, option in enumerate(told):
                if option[:-1] == branch.given:
                    logs[branch.question, column] = found[range(len(option)), option].sum().item()
    likely = np.exp(logs - logs.max(axis=1, keepdims=True))
    chances: Float[np.ndarray, "questions options"] = likely / likely.sum(axis=1, keepdims=True)
    return chances


def choose_next(model: Any, prefix: Prefix, options: Sequence[Ids]) -> Float[np.ndarray, "options"]:
    """The same for the reply that comes right after a prefix of one row, which is kept."""
    first = prefix.logits[0].float().log_softmax(dim=-1)
    logs = []
    for option in (_telling(option, options) for option in options):
        log = first[option[0]]
        if option[1:]:
            ids = torch.tensor([option[:-1]], device=first.device)
            later = feed(model, prefix.rows([0]), ids, keep=torch.arange(ids.shape[1], device=first.device))
            log = log + later[0].log_softmax(dim=-1)[range(len(option) - 1), option[1:]].sum()
        logs.append(log.item())
    likely = np.exp(np.array(logs) - max(logs))
    chances: Float[np.ndarray, "options"] = likely / likely.sum()
    return chances


def _score_packed(model: Any, prefix: Prefix, chunk: Sequence[Branch]) -> list[Float[torch.Tensor, "n vocabulary"]]:
    """The log-probabilities that follow each branch's question and each of its given tokens; all in one row."""
    device, lengths = prefix.mask.device, [len(branch.tokens) for branch in chunk]
    starts = [0, *accumulate(lengths)]
    owner = torch.repeat_interleave(torch.arange(len(chunk)), torch.tensor(lengths)).to(device)
    order = torch.arange(starts[-1], device=device)
    own = (owner[:, None] == owner[None, :]) & (order[:, None] >= order[None, :])
    sees = torch.cat([prefix.mask.bool().expand(len(order), -1), own], dim=1)
    dtype = prefix.logits.dtype
    attend = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill(~sees, torch.finfo(dtype).min)
    logits = feed(
        model,
        prefix.rows([0]),
        torch.tensor([[token for branch in chunk for token in branch.tokens]], device=device),
        steps=torch.cat([torch.arange(length, device=device) for length in lengths]),
        attend=attend[None, None],
        keep=torch.tensor(
            [start + i for start, b in zip(starts, chunk, strict=False) for i in range(len(b.ids) - 1, len(b.tokens))],
            device=device,
        ),
    )
    return list(torch.split(logits[0].log_softmax(dim=-1), [len(branch.given) + 1 for branch in chunk]))


def _score_repeated(model: Any, prefix: Prefix, chunk: Sequence[Branch]) -> list[Float[torch.Tensor, "n vocabulary"]]:
    """The same with one row per branch, padded on the right."""
    device, lengths = prefix.mask.device, [len(branch.tokens) for branch in chunk]
    longest, first = max(lengths), min(len(branch.ids) for branch in chunk) - 1
    ids = [[*branch.tokens, *[0] * (longest - len(branch.tokens))] for branch in chunk]
    seen = [[1] * length + [0] * (longest - length) for length in lengths]
    logits = feed(
        model,
        prefix.rows([0] * len(chunk)),
        torch.tensor(ids, device=device),
        seen=torch.tensor(seen, device=device),
        keep=torch.arange(first, longest, device=device),
    ).log_softmax(dim=-1)
    return [
        row[len(branch.ids) - 1 - first : len(branch.tokens) - first] for row, branch in zip(logits, chunk, strict=True)
    ]


def _packs(branches: Sequence[Branch], width: int, bound: int) -> Iterator[list[Branch]]:
    """Branches for one row each: no more new tokens than cached ones, as beyond that hiding costs more than copying."""
    room = min(max(width, 1), bound - width)
    pack: list[Branch] = []
    for branch in branches:
        if pack and sum(len(other.tokens) for other in pack) + len(branch.tokens) > room:
            yield pack
            pack = []
        pack.append(branch)
    yield pack


def _batches(branches: Sequence[Branch], width: int, bound: int) -> Iterator[Sequence[Branch]]:
    """Branches for one batch of rows each."""
    rows = max(1, bound // (width + max(len(branch.tokens) for branch in branches)))
    for start in range(0, len(branches), rows):
        yield branches[start : start + rows]


def _telling(option: Ids, options: Sequence[Ids]) -> tuple[int, ...]:
    """An option's ids up to the one that tells it from all others."""
    shared = max(common_start([option, other]) for other in options if other is not option)
    return tuple(option[: shared + 1])
