"""The probability of each option after each question: many questions over one cached prefix, each scored separately.

The tokens that all questions share at their start are fed once. If every layer has full attention, the remaining
tokens are packed into one row: a mask hides the questions from each other, and each starts at the same position.
Otherwise each question gets a copy of the row. The work is chunked to bound the cached tokens of one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from sam4mllm.mllm.hf.prefix import CachedPrefix, feed

Ids = Sequence[int]


def common_prefix_length(rows: Sequence[Ids]) -> int:
    """The number of ids that all rows share at their start."""
    for index, column in enumerate(zip(*rows, strict=False)):
        if len(set(column)) > 1:
            return index
    return min(map(len, rows))


@dataclass(frozen=True)
class OptionPath:
    """One forward path: the ids of a question, followed by the first ids of an option."""

    question: int
    ids: tuple[int, ...]
    option_start: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.ids, *self.option_start)


def choose(
    model: Any, prefix: CachedPrefix, questions: Sequence[Ids], options: Sequence[Ids], bound: int, packed: bool
) -> Float[np.ndarray, "questions options"]:
    """The softmax over the options' summed token log-probabilities, one row per question.

    Args:
        model: the model that filled the prefix.
        prefix: one row; it cannot be used afterwards.
        questions: the ids of each question, from the prefix to the start of the reply; at least one.
        options: the ids of each option; none may be the start of another.
        bound: the maximum number of cached and new tokens in one forward pass.
        packed: whether to pack questions into one row.
    """
    n_shared = min(common_prefix_length(questions), min(map(len, questions)) - 1)
    if n_shared:
        feed(model, prefix, torch.tensor([questions[0][:n_shared]], device=prefix.mask.device))
    deciding_ids = [_deciding_ids(option, options) for option in options]
    branches = [
        OptionPath(index, tuple(ids[n_shared:]), option_start)
        for (index, ids), option_start in product(
            enumerate(questions), dict.fromkeys(option[:-1] for option in deciding_ids)
        )
    ]
    score_chunk = _score_packed if packed else _score_repeated
    chunks = (
        _split_for_packing(branches, prefix.width, bound)
        if packed
        else _split_into_batches(branches, prefix.width, bound)
    )
    scores = np.full((len(questions), len(options)), -np.inf)
    for chunk in chunks:
        for branch, log_probabilities in zip(chunk, score_chunk(model, prefix, chunk), strict=True):
            for column, option in enumerate(deciding_ids):
                if option[:-1] == branch.option_start:
                    scores[branch.question, column] = log_probabilities[range(len(option)), option].sum().item()
    likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Float[np.ndarray, "questions options"] = likelihoods / likelihoods.sum(axis=1, keepdims=True)
    return probabilities


def next_option_probabilities(model: Any, prefix: CachedPrefix, options: Sequence[Ids]) -> Float[np.ndarray, "options"]:
    """The same as `choose` for a reply directly after a prefix of one row. The prefix is not changed."""
    next_log_probabilities = prefix.logits[0].float().log_softmax(dim=-1)
    scores = []
    for option in (_deciding_ids(option, options) for option in options):
        score = next_log_probabilities[option[0]]
        if option[1:]:
            ids = torch.tensor([option[:-1]], device=next_log_probabilities.device)
            following_logits = feed(
                model, prefix.rows([0]), ids, keep=torch.arange(ids.shape[1], device=next_log_probabilities.device)
            )
            score = score + following_logits[0].log_softmax(dim=-1)[range(len(option) - 1), option[1:]].sum()
        scores.append(score.item())
    likelihoods = np.exp(np.array(scores) - max(scores))
    probabilities: Float[np.ndarray, "options"] = likelihoods / likelihoods.sum()
    return probabilities


def _score_packed(
    model: Any, prefix: CachedPrefix, chunk: Sequence[OptionPath]
) -> list[Float[torch.Tensor, "n vocabulary"]]:
    """The log-probabilities after each branch's question and each of its option tokens, all branches in one row."""
    device, lengths = prefix.mask.device, [len(branch.tokens) for branch in chunk]
    starts = [0, *accumulate(lengths)]
    owner = torch.repeat_interleave(torch.arange(len(chunk)), torch.tensor(lengths)).to(device)
    order = torch.arange(starts[-1], device=device)
    same_branch = (owner[:, None] == owner[None, :]) & (order[:, None] >= order[None, :])
    visible = torch.cat([prefix.mask.bool().expand(len(order), -1), same_branch], dim=1)
    dtype = prefix.logits.dtype
    attend = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill(~visible, torch.finfo(dtype).min)
    logits = feed(
        model,
        prefix.rows([0]),
        torch.tensor([[token for branch in chunk for token in branch.tokens]], device=device),
        steps=torch.cat([torch.arange(length, device=device) for length in lengths]),
        attend=attend[None, None],
        keep=torch.tensor(
            [
                start + i
                for start, branch in zip(starts, chunk, strict=False)
                for i in range(len(branch.ids) - 1, len(branch.tokens))
            ],
            device=device,
        ),
    )
    return list(torch.split(logits[0].log_softmax(dim=-1), [len(branch.option_start) + 1 for branch in chunk]))


def _score_repeated(
    model: Any, prefix: CachedPrefix, chunk: Sequence[OptionPath]
) -> list[Float[torch.Tensor, "n vocabulary"]]:
    """The same as `_score_packed`, with one row per branch, padded on the right."""
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


def _split_for_packing(branches: Sequence[OptionPath], width: int, bound: int) -> Iterator[list[OptionPath]]:
    """Split branches into groups for one packed row each.

    A row holds at most as many new tokens as cached ones: beyond that, masking costs more than copying.
    """
    capacity = min(max(width, 1), bound - width)
    group: list[OptionPath] = []
    for branch in branches:
        if group and sum(len(member.tokens) for member in group) + len(branch.tokens) > capacity:
            yield group
            group = []
        group.append(branch)
    yield group


def _split_into_batches(branches: Sequence[OptionPath], width: int, bound: int) -> Iterator[Sequence[OptionPath]]:
    """Split branches into groups for one batch each, with one row per branch."""
    rows = max(1, bound // (width + max(len(branch.tokens) for branch in branches)))
    for start in range(0, len(branches), rows):
        yield branches[start : start + rows]


def _deciding_ids(option: Ids, options: Sequence[Ids]) -> tuple[int, ...]:
    """An option's ids up to the first one that distinguishes it from all other options."""
    n_shared = max(common_prefix_length([option, other]) for other in options if other is not option)
    return tuple(option[: n_shared + 1])
