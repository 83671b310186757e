"""A model's chat template as token ids: the opened prompt, the reply, and what follows a reply.

A conversation has the ids of the opened prompt, and for each turn the ids of the reply and of the template's text up to
the next reply. That text is cut from a rendering with placeholder replies, so templates need no `{% generation %}`
markers, and a training row has the same ids as a chat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image as PilImage
from transformers import BatchFeature

from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.choose import common_prefix_length

PROBE_TEXTS = ("a", "7", " a", "\na", "<")  # their rendered prompts have only the part before the text in common


class Template:
    """The chat template of a processor.

    Args:
        processor: a transformers processor with a tokenizer. Its padding side is set to the left.
        end_ids: the ids that end a reply according to the model's generation configuration.

    Attributes:
        end_ids: the ids that end a reply: the given ones, the tokenizer's and the template's.
        end_id: the id that the template writes after a reply, or the tokenizer's if the template writes none.

    Raises:
        UserError: if the processor has no chat template, or its template fails or renders no replies.
    """

    def __init__(self, processor: Any, end_ids: Sequence[int]) -> None:
        if processor.chat_template is None and processor.tokenizer.chat_template is None:
            raise UserError("the model has no chat template: choose a model that is trained for chat")
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.end_ids = {*end_ids, self.tokenizer.eos_token_id} - {None}
        head, tail = self._around_reply()
        self._generation = self._render(["@@"]).rpartition("@@")[2]
        self._reply_prefix = _reply_prefix(self._render(["?"]), head)
        special_ids = {*self.tokenizer.all_special_ids, *self.end_ids}
        end_id = next(iter(self.ids(tail.lstrip())), None)
        self._end = "" if end_id in special_ids else self.tokenizer.eos_token or ""
        self.end_ids |= {end_id} & special_ids
        self.end_id = self.ids(self._end + tail.lstrip())[0]
        self._before_text = common_prefix_length([self.ids(self._render([text])) for text in PROBE_TEXTS])
        added_tokens = self.tokenizer.added_tokens_decoder
        # a processor loaded with remote code need not have an image token
        breaking = {
            getattr(processor, "image_token", None),
            *(added_tokens[id].content for id in self.end_ids & added_tokens.keys()),
        }
        self._breaks = _any_of(breaking - {None})
        self._special_tokens = _any_of(
            (breaking - {None}) | {token.content for token in added_tokens.values() if token.special}
        )

    def find_special_token(self, text: str) -> str | None:
        """The first special token of the model, or placeholder reply, in a text; None if there is none."""
        match = self._special_tokens.search(text)
        return match[0] if match else None

    def open(self, texts: Sequence[str], images: Sequence[PilImage.Image]) -> BatchFeature:
        """The model's inputs for one opened conversation per image, padded on the left.

        Raises:
            UserError: if a text contains the model's image token, an end token or a placeholder reply, or the model
                cannot process an image of this size.
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
        except ValueError as error:  # some processors cannot resize very narrow images
            sizes = ", ".join(f"{image.width} x {image.height}" for image in images)
            raise UserError(f"the model cannot process an image of {sizes}: {' '.join(str(error).split())}") from error
        return inputs

    def opening_ids(self, text: str) -> list[int]:
        """The ids of an opened prompt from the user's text on. The ids before it are the same for all texts."""
        self._refuse_breaks(text)
        return self.ids(self._render([text]))[self._before_text :]

    def between(self, texts: Sequence[str]) -> list[int]:
        """The ids from the end of the last reply to the start of the next one.

        A reply always ends with an end token: the template's, or the tokenizer's if the template writes none.

        Args:
            texts: all texts of the user so far, the last one unanswered; at least two.
        """
        self._refuse_breaks(texts[-1])
        last = f"@@{len(texts) - 2}@@"
        return self.ids(self._end + self._render(texts).partition(last)[2])

    def reply(self, text: str) -> list[int]:
        """The ids of a reply as the template renders it, without its end token. Some templates put a space first."""
        before = self.ids(self._generation)
        with_reply = self.ids(self._generation + self._reply_prefix + text)
        return with_reply[len(before) :] if with_reply[: len(before)] == before else self.ids(self._reply_prefix + text)

    def text(self, ids: Sequence[int]) -> str:
        """The text of reply ids. Special tokens are kept, because some models write places with them."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.strip()

    def ids(self, text: str) -> list[int]:
        """The ids of a part of a rendering."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _render(self, texts: Sequence[str]) -> str:
        """The rendered conversation up to the start of the next reply. Earlier replies are placeholders."""
        chat: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            image = [{"type": "image"}] if index == 0 else []
            chat.append({"role": "user", "content": [*image, {"type": "text", "text": text}]})
            chat.append({"role": "assistant", "content": [{"type": "text", "text": f"@@{index}@@"}]})
        try:
            rendered: str = self.processor.apply_chat_template(chat[:-1], add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program and can raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"the model's chat template does not work: {reason}") from error
        return rendered

    def _around_reply(self) -> tuple[str, str]:
        head, placeholder, tail = self._render(["?", "?"]).partition("@@0@@")
        if not placeholder:
            raise UserError("the model's chat template renders no replies, so it supports no second question")
        return head, tail

    def _refuse_breaks(self, text: str) -> None:
        """Refuse text that would break a conversation. Other special tokens are allowed: some models use them."""
        match = self._breaks.search(text)
        if match:
            raise UserError(f"the text {text!r} contains {match[0]}, which is special in the model's input: remove it")


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest first, or a placeholder reply."""
    return re.compile("|".join([*map(re.escape, sorted(tokens, key=len, reverse=True)), r"@@\d+@@"]))


def _reply_prefix(prompt: str, head: str) -> str:
    """What the template writes before a reply but leaves out of the generation prompt.

    If a past turn does not start with the generation prompt, only the white space before its reply is taken.
    """
    if head.startswith(prompt):
        return head[len(prompt) :]
    return "" if prompt[-1:].isspace() else head[len(head.rstrip()) :]
