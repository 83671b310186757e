"""Training rows: the token sequences that chats would produce, supervised on the replies and their ends only.

A row is the opened prompt as the processor makes it, then reply, end of turn, next question and so on, cut from the
template just as a chat cuts them (`template`), so that training and asking are one function. Knows nothing of
training.
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
from sam4mllm.mllm.hf.frames import Sight
from sam4mllm.mllm.hf.template import Template

IGNORED = -100  # the label that torch's cross-entropy passes over
AT_ONCE = 1000  # texts in one call of a tokenizer, which makes lists of all their ids


@dataclass(frozen=True)
class Tail:
    """What follows an opened prompt: token ids, and whether each is a reply's or its end."""

    ids: list[int]
    supervised: list[bool]


def tail(template: Template, turns: Sequence[Turn]) -> Tail:
    """All that a conversation holds after its opened prompt, up to the end of the last reply.

    Raises:
        UserError: unless user and assistant take turns, the user first and the assistant last.
    """
    roles = [turn.role for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise UserError(f"a conversation is user, assistant, user, assistant ..., got {', '.join(roles) or 'nothing'}")
    asked = [turn.text for turn in turns[::2]]
    ids: list[int] = []
    supervised: list[bool] = []
    for number, turn in enumerate(turns[1::2], start=1):
        said = template.reply(turn.text)
        later = template.between([*asked, "?"][: number + 1])
        end = next(at for at, token in enumerate(later) if token in template.end_ids) + 1
        rest = later[end:] if number < len(asked) else []
        ids += [*said, *later[:end], *rest]
        supervised += [True] * (len(said) + end) + [False] * len(rest)
    return Tail(ids, supervised)


@dataclass(frozen=True)
class TemplateLengths:
    """How many tokens texts and conversations are, without a picture's own and what else comes before its text."""

    template: Template
    sight: Sight

    def texts(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text by itself."""
        different, found = list(dict.fromkeys(texts)), dict[str, int]()
        for start in range(0, len(different), AT_ONCE):
            some = different[start : start + AT_ONCE]
            ids = self.template.tokenizer(some, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            found.update(zip(some, map(len, ids), strict=True))
        return [found[text] for text in texts]

    def mark_in(self, text: str) -> str | None:
        """The first of the model's special tokens that a text holds, or what else would break its input."""
        return self.template.mark_in(text)

    def conversation(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """The tokens of a conversation from the user's first word on, and how many of them are learned from.

        Raises:
            UserError: as `tail` does.
        """
        after = tail(self.template, turns)
        return len(self.template.opening(turns[0].text)) + len(after.ids), sum(after.supervised)

    def pictures(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """The tokens of all that comes before the user's first word, for a picture of each (width, height).

        Most processors tell by the size how many tokens a picture takes; one that does not is shown a blank of each
        shape, the largest of those that come, for most of them scale pictures to one size.

        Raises:
            UserError: for a size that the model cannot take.
        """
        different = sorted(set(sizes), key=lambda size: size[0] * size[1])
        told = _teller(self.template.processor)
        if told is None:
            largest = {_shape(*size): size for size in different}
            by_shape = {shape: self.picture(*size) for shape, size in largest.items()}
            return [by_shape[_shape(*size)] for size in sizes]
        own = {size: _told(told, *self.sight.size(*size)) for size in different}
        around = self.picture(*different[0]) - own[different[0]] if different else 0
        return [own[size] + around for size in sizes]

    def picture(self, width: int, height: int) -> int:
        """As `pictures` for one, counted on a blank of this size, which takes the time of a picture."""
        blank = self.sight.prepare(np.zeros((height, width, 3), dtype=np.uint8))
        opened = self.template.open(["?"], [blank])["input_ids"]
        return int(opened.shape[1]) - len(self.template.opening("?"))


def _shape(width: int, height: int) -> int:
    """A picture's shape, in eighths of an octave of its width over its height."""
    return round(8 * log2(width / height))


def _teller(processor: Any) -> Callable[..., Any] | None:
    """What tells the tokens of pictures by their sizes; None where nothing does."""
    told: Callable[..., Any] | None = getattr(processor, "_get_num_multimodal_tokens", None)
    try:
        return told if told and told(image_sizes=[(224, 224)]) else None
    except TypeError:  # some ask to what size pictures are cropped, which not every image processor does
        return None


def _told(told: Callable[..., Any], width: int, height: int) -> int:
    try:
        return int(told(image_sizes=[(height, width)]).num_image_tokens[0])
    except ValueError as error:  # some resize no picture that is a line
        size = f"{width} x {height}"
        raise UserError(f"the model cannot take a picture of {size}: {' '.join(str(error).split())}") from error


def rows(
    template: Template,
    images: Sequence[PilImage.Image],
    conversations: Sequence[Sequence[Turn]],
    prefix_lm: bool,
) -> dict[str, Tensor]:
    """A batch for training, padded on the right: the model's inputs, and ``labels``.

    Args:
        template: of the model.
        images: one per conversation, as the processor is given them.
        conversations: user and assistant by turns.
        prefix_lm: whether the prompt's tokens attend to later ones of their type: replies are then given type 1.
    """
    tails = [tail(template, turns) for turns in conversations]
    inputs = dict(template.open([turns[0].text for turns in conversations], images))
    opened = inputs["attention_mask"].bool()
    per_token = [name for name, value in inputs.items() if value.shape == opened.shape and name != "labels"]
    kept = {name: [row[mask] for row, mask in zip(inputs[name], opened, strict=True)] for name in per_token}
    new = {"input_ids": [torch.tensor(each.ids) for each in tails]}
    for name in per_token:
        fill = int(name == "attention_mask" or (prefix_lm and name == "token_type_ids"))
        after = new.get(name) or [torch.full((len(each.ids),), fill) for each in tails]
        pad = template.tokenizer.pad_token_id if name == "input_ids" else 0
        inputs[name] = _stacked([torch.cat(pair) for pair in zip(kept[name], after, strict=True)], pad)
    inputs["labels"] = _stacked(
        [
            torch.cat([torch.full((int(mask.sum()),), IGNORED), _labels(each)])
            for mask, each in zip(opened, tails, strict=True)
        ],
        IGNORED,
    )
    return inputs


def _labels(each: Tail) -> Int[Tensor, "n"]:
    return torch.tensor(each.ids).masked_fill(~torch.tensor(each.supervised), IGNORED)


def _stacked(sequences: Sequence[Int[Tensor, "_"]], pad: int) -> Int[Tensor, "rows n"]:
    stacked: Tensor = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True, padding_value=pad)
    return stacked
