"""Training rows: the token sequences that chats produce, with labels on the replies and their end tokens only.

A row is the opened prompt as the processor renders it, then reply, end of turn, next question and so on. The same code
(`template`) cuts rows and chats from the chat template, so training and inference see the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image as PilImage
from torch import Tensor

from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.frames import ImagePreprocessor
from sam4mllm.mllm.hf.template import Template

IGNORE_LABEL = -100  # the label that torch's cross-entropy ignores
TOKENIZER_BATCH = 1000  # texts per call of a tokenizer, which keeps lists of all their ids


@dataclass(frozen=True)
class ReplyTail:
    """The tokens after an opened prompt, and whether each belongs to a reply or its end token."""

    ids: list[int]
    supervised: list[bool]


def tail(template: Template, turns: Sequence[Turn]) -> ReplyTail:
    """The tokens of a conversation after its opened prompt, up to the end of the last reply.

    Raises:
        UserError: unless user and assistant alternate, with the user first and the assistant last.
    """
    roles = [turn.role for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise UserError(f"user and assistant must alternate, assistant last; got {', '.join(roles) or 'no turns'}")
    user_texts = [turn.text for turn in turns[::2]]
    ids: list[int] = []
    supervised: list[bool] = []
    for number, turn in enumerate(turns[1::2], start=1):
        reply_ids = template.reply(turn.text)
        following_ids = template.between([*user_texts, "?"][: number + 1])
        end = next(position for position, token in enumerate(following_ids) if token in template.end_ids) + 1
        next_prompt = following_ids[end:] if number < len(user_texts) else []
        ids += [*reply_ids, *following_ids[:end], *next_prompt]
        supervised += [True] * (len(reply_ids) + end) + [False] * len(next_prompt)
    return ReplyTail(ids, supervised)


@dataclass(frozen=True)
class TokenCounts:
    """Counts the tokens of texts, conversations and images."""

    template: Template
    sight: ImagePreprocessor

    def texts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text on its own."""
        distinct, counts = list(dict.fromkeys(texts)), dict[str, int]()
        for start in range(0, len(distinct), TOKENIZER_BATCH):
            chunk = distinct[start : start + TOKENIZER_BATCH]
            ids = self.template.tokenizer(chunk, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            counts.update(zip(chunk, map(len, ids), strict=True))
        return [counts[text] for text in texts]

    def find_special_token(self, text: str) -> str | None:
        """The first string in a text that the model treats specially, such as a token; None if there is none."""
        return self.template.find_special_token(text)

    def conversation(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """The number of tokens from the user's first text on, and how many of them are supervised.

        The tokens of the image and of everything else before the first text are not counted.

        Raises:
            UserError: as `tail` does.
        """
        following = tail(self.template, turns)
        return len(self.template.opening_ids(turns[0].text)) + len(following.ids), sum(following.supervised)

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """The number of tokens before the user's first text, for an image of each (width, height).

        Most processors compute the number of image tokens from the size. For the others a blank image is processed for
        each aspect ratio, at the largest of the given sizes, because most of them scale all images to one size.

        Raises:
            UserError: if the model cannot process an image of a given size.
        """
        distinct = sorted(set(sizes), key=lambda size: size[0] * size[1])
        count_tokens = _token_counter(self.template.processor)
        if count_tokens is None:
            largest = {_aspect_class(*size): size for size in distinct}
            by_shape = {shape: self.count_image_tokens(*size) for shape, size in largest.items()}
            return [by_shape[_aspect_class(*size)] for size in sizes]
        image_tokens = {size: _image_tokens(count_tokens, *self.sight.size(*size)) for size in distinct}
        other_tokens = self.count_image_tokens(*distinct[0]) - image_tokens[distinct[0]] if distinct else 0
        return [image_tokens[size] + other_tokens for size in sizes]

    def count_image_tokens(self, width: int, height: int) -> int:
        """The same as `image_tokens` for one size, counted by processing a blank image, which is slow."""
        blank = self.sight.prepare(np.zeros((height, width, 3), dtype=np.uint8))
        opened = self.template.open(["?"], [blank])["input_ids"]
        return int(opened.shape[1]) - len(self.template.opening_ids("?"))


def _aspect_class(width: int, height: int) -> int:
    """The width-to-height ratio of an image, in eighths of an octave."""
    return round(8 * log2(width / height))


def _token_counter(processor: Any) -> Callable[..., Any] | None:
    """The processor's function that computes image tokens from sizes; None if it has none."""
    count_tokens: Callable[..., Any] | None = getattr(processor, "_get_num_multimodal_tokens", None)
    try:
        return count_tokens if count_tokens and count_tokens(image_sizes=[(224, 224)]) else None
    except TypeError:  # some need a crop size, which not every image processor has
        return None


def _image_tokens(count_tokens: Callable[..., Any], width: int, height: int) -> int:
    try:
        return int(count_tokens(image_sizes=[(height, width)]).num_image_tokens[0])
    except ValueError as error:  # some processors cannot resize very narrow images
        size = f"{width} x {height}"
        raise UserError(f"the model cannot process an image of {size}: {' '.join(str(error).split())}") from error


def rows(
    template: Template,
    images: Sequence[PilImage.Image],
    conversations: Sequence[Sequence[Turn]],
    prefix_lm: bool,
) -> dict[str, Tensor]:
    """A training batch, padded on the right: the model's inputs and ``labels``.

    Args:
        template: of the model.
        images: one per conversation, prepared for the processor.
        conversations: alternating turns of user and assistant.
        prefix_lm: whether prompt tokens attend to later ones of their token type. Replies then get type 1.
    """
    tails = [tail(template, turns) for turns in conversations]
    inputs = dict(template.open([turns[0].text for turns in conversations], images))
    opened = inputs["attention_mask"].bool()
    per_token = [name for name, value in inputs.items() if value.shape == opened.shape and name != "labels"]
    unpadded = {name: [row[mask] for row, mask in zip(inputs[name], opened, strict=True)] for name in per_token}
    reply_ids = {"input_ids": [torch.tensor(row_tail.ids) for row_tail in tails]}
    for name in per_token:
        fill = int(name == "attention_mask" or (prefix_lm and name == "token_type_ids"))
        following = reply_ids.get(name) or [torch.full((len(row_tail.ids),), fill) for row_tail in tails]
        pad = template.tokenizer.pad_token_id if name == "input_ids" else 0
        inputs[name] = _pad_right([torch.cat(pair) for pair in zip(unpadded[name], following, strict=True)], pad)
    inputs["labels"] = _pad_right(
        [
            torch.cat([torch.full((int(mask.sum()),), IGNORE_LABEL), _labels(row_tail)])
            for mask, row_tail in zip(opened, tails, strict=True)
        ],
        IGNORE_LABEL,
    )
    return inputs


def _labels(row_tail: ReplyTail) -> Int[Tensor, "n"]:
    return torch.tensor(row_tail.ids).masked_fill(~torch.tensor(row_tail.supervised), IGNORE_LABEL)


def _pad_right(sequences: Sequence[Int[Tensor, "_"]], pad: int) -> Int[Tensor, "rows n"]:
    stacked: Tensor = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=pad)
    return stacked
