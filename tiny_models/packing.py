"""Packs short conversations about one image into one row, so that the image is encoded once.

The conversations do not attend to each other, and each has the tokens and positions that it would have alone. This
works for models with a fixed number of image tokens before the text, such as the tiny MLLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.rows import IGNORE_LABEL


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A batch of rows, padded on the right.

    Attributes:
        ids: token ids.
        labels: the tokens of replies with their end tokens; `IGNORE_LABEL` elsewhere.
        positions: each token's position in its conversation.
        mask: whether a token (second last axis) attends to another token (last axis).
    """

    ids: Int64[Tensor, "rows n"]
    labels: Int64[Tensor, "rows n"]
    positions: Int64[Tensor, "rows n"]
    mask: Bool[Tensor, "rows 1 n n"]


class Packer:
    """Packs conversations with the tokenizer and the chat template of `tiny_models.model`.

    Args:
        tokenizer: the model's tokenizer.
        image_tokens: number of tokens per image.
    """

    def __init__(self, tokenizer: Any, image_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.user, self.reply, self.end, image = tokenizer.convert_tokens_to_ids(
            ["<user>", "<reply>", "<end>", "<image>"]
        )
        self.opening = [self.user, *[image] * image_tokens]

    def pack(self, scenes: Sequence[Sequence[Sequence[Turn]]]) -> Packed:
        """A batch with one row per scene."""
        rows = [self._row(conversations) for conversations in scenes]
        longest = max(len(row[0]) for row in rows)
        fills = (self.tokenizer.pad_token_id, IGNORE_LABEL, 0, -1)
        ids, labels, positions, owners = (
            torch.tensor([row[part] + [fill] * (longest - len(row[part])) for row in rows])
            for part, fill in enumerate(fills)
        )
        earlier = torch.ones(longest, longest, dtype=torch.bool).tril()
        same = (owners[:, None, :] == 0) | (owners[:, :, None] == owners[:, None, :])
        return Packed(ids, labels, positions, (earlier & same)[:, None])

    def _row(self, conversations: Sequence[Sequence[Turn]]) -> tuple[list[int], list[int], list[int], list[int]]:
        """Tokens, labels, positions, and the conversation number of each token; image tokens have number 0."""
        start = len(self.opening)
        ids, labels = list(self.opening), [IGNORE_LABEL] * start
        positions, owners = list(range(start)), [0] * start
        for owner, turns in enumerate(conversations, start=1):
            tokens, token_labels = self._tokens(turns)
            ids += tokens
            labels += token_labels
            positions += range(start, start + len(tokens))
            owners += [owner] * len(tokens)
        return ids, labels, positions, owners

    def _tokens(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        tokens: list[int] = []
        labels: list[int] = []
        for user, assistant in zip(turns[::2], turns[1::2], strict=True):
            question = [*([self.user] if tokens else []), *self._ids(user.text), self.reply]
            answer = [*self._ids(assistant.text), self.end]
            tokens += question + answer
            labels += [IGNORE_LABEL] * len(question) + answer
        return tokens, labels

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids
