"""One door to the talkers: `MLLM` opens pictures, `Chat` is asked about them. Knows nothing of segmentation.

Backends: `sam4mllm.mllm.scripted` (a function, or recorded replies) and `sam4mllm.mllm.hf.model` (transformers).

    >>> chat = mllm.open([image])
    >>> chat.answer(["Where is the cat?"])
    [Reply(text='[281,240,863,999]', finished=True)]
    >>> chat.choose([["Is (093,070) on the cat?"]], ("Yes", "No"))
    [array([[0.97, 0.03]])]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.messages import Reply, Turn
from sam4mllm.language.notation import Dialect

AnyImage: TypeAlias = UInt8[np.ndarray, "_ _ 3"]  # of any size: a named axis would have to be one size in all
Images: TypeAlias = Sequence[AnyImage]


Conversation: TypeAlias = tuple[AnyImage, Sequence[Turn]]


@runtime_checkable
class Chat(Protocol):
    """Conversations about several pictures at once, one each; what was said stays said."""

    @property
    def frames(self) -> Sequence[Frame]:
        """How the model sees each picture; the dialect writes and reads places in it."""
        ...

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Ask one text per picture and append both turns.

        A picture whose text is empty is not asked: nothing is appended, and its reply is empty.

        Raises:
            ValueError: unless there is one text per picture.
        """
        ...

    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """How likely each option is as the reply to each question, every question asked alone as the next turn.

        Args:
            questions: for each picture its questions, any number of them.
            options: at least two replies, the same for all.

        Returns:
            For each picture an array (n_questions, n_options), rows summing to 1: the softmax over the summed token
            log-probabilities of each option as the chat template renders it. Nothing is appended to the conversation.
        """
        ...


@runtime_checkable
class MLLM(Protocol):
    """A multimodal LLM that can be talked to about pictures."""

    @property
    def dialect(self) -> Dialect:
        """How this model writes boxes and points."""
        ...

    def open(self, images: Images, keys: Sequence[str] = ()) -> Chat:
        """Begin one conversation per picture; each picture is encoded once, here or at the first question.

        Args:
            images: RGB pictures of any size, ragged sizes allowed.
            keys: one name per picture (a sample's id), for backends that look replies up by it; others ignore them.
        """
        ...
