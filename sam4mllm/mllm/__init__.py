"""The `MLLM` and `Chat` protocols: an MLLM opens images, and a chat answers questions about them.

Backends: `sam4mllm.mllm.scripted` (a function, or recorded replies) and `sam4mllm.mllm.hf.model` (transformers).

    >>> chat = mllm.open([image])
    >>> chat.answer(["Where is the cat?"])
    [Reply(text='[281,240,863,999]', finished=True)]
    >>> chat.choose([["Is (093,070) on the cat?"]], ("Yes", "No"))
    [array([[0.97, 0.03]])]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.messages import Reply, Turn
from sam4mllm.language.notation import Dialect

AnyImage: TypeAlias = UInt8[np.ndarray, "_ _ 3"]  # a named axis would force one size on all images
Images: TypeAlias = Sequence[AnyImage]


ImageTurns: TypeAlias = tuple[AnyImage, Sequence[Turn]]


@dataclass(frozen=True, slots=True)
class ChatCapabilities:
    """What the chats of an MLLM support in addition to replies.

    Attributes:
        choose: whether `Chat.choose` gives the probabilities of options.
    """

    choose: bool = True


@runtime_checkable
class Chat(Protocol):
    """A batch of conversations, one per image. Turns are appended and never changed."""

    @property
    def frames(self) -> Sequence[Frame]:
        """The frame of each image as the model sees it. The dialect writes and parses places in this frame."""
        ...

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Send one text per image and return the replies. Both turns are appended to the conversation.

        An image whose text is empty is skipped: nothing is appended, and its reply is empty.

        Raises:
            ValueError: if the number of texts differs from the number of images.
        """
        ...

    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """The probability of each option as the reply to each question.

        Every question is scored on its own, as the next turn.

        Args:
            questions: the questions about each image, any number of them.
            options: at least two replies, the same for all questions.

        Returns:
            One array (n_questions, n_options) per image, with rows that sum to 1: the softmax over the summed token
            log-probabilities of each option as the chat template renders it. Nothing is appended to the conversation.
        """
        ...


@runtime_checkable
class MLLM(Protocol):
    """A multimodal LLM that answers questions about images."""

    @property
    def dialect(self) -> Dialect:
        """The notation in which this model writes boxes and points."""
        ...

    def open(self, images: Images, keys: Sequence[str] = ()) -> Chat:
        """Start one conversation per image. Each image is encoded once, here or at the first question.

        Args:
            images: RGB images; sizes may differ.
            keys: one name per image (a sample's id), for backends that look replies up by key. Other backends ignore
                it.
        """
        ...
