"""A model's own chat template, as token ids: the opened prompt, what follows a reply, and a reply as it is rendered.

A conversation's ids are those of the opened prompt, then for each turn the ids of the reply and the ids of all that
the template writes between that reply and the next. The last are cut out of one rendering whose replies are
placeholders, so that no template needs markers, and a row for training is what a chat would produce. Knows nothing of
the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image as PilImage
from transformers import BatchFeature

from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.choose import common_start

PLACEHOLDERS = ("a", "7", " a", "\na", "<")  # texts so unlike that all they share is what stands before them


class Template:
    """The chat template of a processor.

    Args:
        processor: a transformers processor with a tokenizer; its padding side is set to the left.
        end_ids: ids of the tokens that end a reply, by the model's generation configuration.

    Attributes:
        end_ids: the ids at which a reply is over: those given, the tokenizer's and the template's.
        end_id: the one that the template writes after a reply, or the tokenizer's where it writes none.

    Raises:
        UserError: for a processor without a chat template, or with one that does not work or renders no replies.
    """

    def __init__(self, processor: Any, end_ids: Sequence[int]) -> None:
        if processor.chat_template is None and processor.tokenizer.chat_template is None:
            raise UserError("the model has no chat template: only models that are trained to chat can be asked")
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.end_ids = {*end_ids, self.tokenizer.eos_token_id} - {None}
        head, tail = self._around_reply()
        self._generation = self._render(["@@"]).rpartition("@@")[2]
        self._reply_prefix = _reply_prefix(self._render(["?"]), head)
        special = {*self.tokenizer.all_special_ids, *self.end_ids}
        first = next(iter(self.ids(tail.lstrip())), None)
        self._end = "" if first in special else self.tokenizer.eos_token or ""
        self.end_ids |= {first} & special
        self.end_id = self.ids(self._end + tail.lstrip())[0]
        self._before_text = common_start([self.ids(self._render([text])) for text in PLACEHOLDERS])
        added = self.tokenizer.added_tokens_decoder
        # a processor that comes with its model need not have an image token
        breaks = {getattr(processor, "image_token", None), *(added[id].content for id in self.end_ids & added.keys())}
        self._breaks = _any_of(breaks - {None})
        self._marks = _any_of((breaks - {None}) | {token.content for token in added.values() if token.special})

    def mark_in(self, text: str) -> str | None:
        """The first of the model's special tokens, or of our placeholders, that a text of other people holds."""
        found = self._marks.search(text)
        return found[0] if found else None

    def open(self, texts: Sequence[str], images: Sequence[PilImage.Image]) -> BatchFeature:
        """The model's inputs for one opened conversation per picture, padded on the left.

        Raises:
            UserError: for a text that holds the model's own image token, a token that ends replies, or a placeholder.
        """
        for text in texts:
            self._refuse_breaks(text)
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]
            for text, image in zip(texts, images, strict=True)
        ]
        try:
            inputs: BatchFeature = self.processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        except ValueError as error:  # some resize no picture that is a line
            sizes = ", ".join(f"{image.width} x {image.height}" for image in images)
            raise UserError(f"the model cannot take a picture of {sizes}: {' '.join(str(error).split())}") from error
        return inputs

    def opening(self, text: str) -> list[int]:
        """The ids of an opened prompt from where the user's text begins; what is before is the same for all texts."""
        self._refuse_breaks(text)
        return self.ids(self._render([text]))[self._before_text :]

    def between(self, texts: Sequence[str]) -> list[int]:
        """The ids from the end of the last reply up to where the next one begins.

        A reply always ends in an end token: the template's own or, where it writes none, the tokenizer's.

        Args:
            texts: all the user's texts so far, the last of them unanswered; at least two.
        """
        self._refuse_breaks(texts[-1])
        last = f"@@{len(texts) - 2}@@"
        return self.ids(self._end + self._render(texts).partition(last)[2])

    def reply(self, text: str) -> list[int]:
        """The ids of a reply as the template renders it (after a space, in some), without its end token."""
        before = self.ids(self._generation)
        whole = self.ids(self._generation + self._reply_prefix + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.ids(self._reply_prefix + text)

    def text(self, ids: Sequence[int]) -> str:
        """What reply ids say. Special tokens are kept, for some models write places with them."""
        said: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return said.strip()

    def ids(self, text: str) -> list[int]:
        """The ids of a piece of a rendering."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _render(self, texts: Sequence[str]) -> str:
        """The user's texts, each but the last answered by a placeholder, up to where the next reply begins."""
        chat: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            image = [{"type": "image"}] if index == 0 else []
            chat.append({"role": "user", "content": [*image, {"type": "text", "text": text}]})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": f"@@{index}@@"}]})
        try:
            rendered: str = self.processor.apply_chat_template(chat[:-1], add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program, and raises whatever it stumbles over
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"the model's chat template does not work: {said}") from error
        return rendered

    def _around_reply(self) -> tuple[str, str]:
        head, found, tail = self._render(["?", "?"]).partition("@@0@@")
        if not found:
            raise UserError("the model's chat template renders no replies, so it cannot be asked a second time")
        return head, tail

    def _refuse_breaks(self, text: str) -> None:
        """Refuse what would break a conversation; other special tokens are how some models read places."""
        found = self._breaks.search(text)
        if found:
            raise UserError(f"the text {text!r} holds {found[0]}, by which the model's input is marked")


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the tokens, the longest first, and what stands for a reply in a rendering."""
    return re.compile("|".join([*map(re.escape, sorted(tokens, key=len, reverse=True)), r"@@\d+@@"]))


def _reply_prefix(prompt: str, head: str) -> str:
    """What a template writes before a reply that its generation prompt leaves to the model.

    Where the generation prompt is not how earlier turns are rendered, only white space is taken for it.
    """
    if head.startswith(prompt):
        return head[len(prompt) :]
    return "" if prompt[-1:].isspace() else head[len(head.rstrip()) :]
