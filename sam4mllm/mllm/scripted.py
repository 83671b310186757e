"""An `MLLM` that replies from a function or a recording, for tests and for running the pipeline without weights.

A recording is a JSON Lines file of predictions. These fields of a line are read:

    {"id": "refcoco-val-5342-0", "replies": ["[281,240,863,999]"], "asked": [[0, 93.5, 70.5, 0.97]]}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Frame, Image
from sam4mllm.language.dialects import DIALECTS
from sam4mllm.language.messages import Reply, Turn
from sam4mllm.language.notation import Dialect
from sam4mllm.mllm import Images

ReplyFn: TypeAlias = Callable[[str, Image, Sequence[Turn]], str]
ChoiceFn: TypeAlias = Callable[[str, Image, Sequence[Turn], str, Sequence[str]], Sequence[float]]


class ScriptedMLLM:
    """An MLLM that calls a function for each reply.

    Args:
        reply_fn: returns the reply, given the key, the image and the turns, of which the last is the user's.
        choice_fn: returns the weight of each option, given the key, the image, the turns so far, a question and the
            options. Weights are scaled to sum to 1. By default all options are equally likely.
        dialect: the notation of places; the paper's by default.
    """

    def __init__(
        self, reply_fn: ReplyFn, choice_fn: ChoiceFn | None = None, dialect: Dialect = DIALECTS["sam4mllm"]
    ) -> None:
        self._says, self._leans, self._dialect = reply_fn, choice_fn or _equal_weights, dialect

    @classmethod
    def replay(cls, path: str | Path, dialect: str = "sam4mllm") -> ScriptedMLLM:
        """An MLLM that repeats the replies and probabilities recorded in a predictions file, by key and in order.

        Opening a key again restarts its recording. The first of two options gets the recorded probability of "yes".

        Raises:
            UserError: if the file cannot be read; later, if a key is not recorded or its recording is exhausted.
        """
        recording = Recording(Path(path))
        return cls(recording.reply_fn, recording.choice_fn, DIALECTS[dialect])

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    def open(self, images: Images, keys: Sequence[str] = ()) -> ScriptedChat:
        """Start one conversation per image. Without ``keys`` every key is empty."""
        return ScriptedChat(self._says, self._leans, images, keys or [""] * len(images))


class ScriptedChat:
    """A chat that replies from a function. Each frame is the unscaled image."""

    def __init__(self, reply_fn: ReplyFn, choice_fn: ChoiceFn, images: Images, keys: Sequence[str]) -> None:
        if len(keys) != len(images):
            raise ValueError(f"{len(keys)} keys for {len(images)} images")
        self._says, self._leans, self._images, self._keys = reply_fn, choice_fn, images, keys
        self._turns: list[list[Turn]] = [[] for _ in images]

    @property
    def frames(self) -> Sequence[Frame]:
        return [Frame.unscaled(image.shape[1], image.shape[0]) for image in self._images]

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Send one text per image. An image with an empty text is skipped, and its reply is empty."""
        if len(texts) != len(self._images):
            raise ValueError(f"{len(texts)} texts for {len(self._images)} images")
        return [self._answer(index, text) if text else Reply("") for index, text in enumerate(texts)]

    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """The probability of each option after each question, from the function."""
        if len(questions) != len(self._images):
            raise ValueError(f"questions about {len(questions)} images for {len(self._images)} images")
        if len(options) < 2:
            raise ValueError(f"choosing needs at least two options, got {list(options)}")
        return [
            np.array([self._lean(index, question, options) for question in image_questions]).reshape(
                len(image_questions), len(options)
            )
            for index, image_questions in enumerate(questions)
        ]

    def _answer(self, index: int, text: str) -> Reply:
        turns = self._turns[index]
        turns.append(Turn("user", text))
        reply = self._says(self._keys[index], self._images[index], tuple(turns))
        turns.append(Turn("assistant", reply))
        return Reply(reply)

    def _lean(self, index: int, question: str, options: Sequence[str]) -> Float[np.ndarray, "options"]:
        turns = tuple(self._turns[index])
        weights = np.array(self._leans(self._keys[index], self._images[index], turns, question, options), dtype=float)
        probabilities: Float[np.ndarray, "options"] = weights / weights.sum()
        return probabilities


class Recording:
    """The recorded replies and probabilities of each key, in order."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the recording {path}: {error}") from error
        self._replies: dict[str, list[str]] = {}
        self._probabilities: dict[str, list[float]] = {}
        self._next_question: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._parse_line(line, f"{path}:{number}")

    def _parse_line(self, line: str, location: str) -> None:
        try:
            record: dict[str, Any] = json.loads(line)
            key = str(record["id"])
            self._replies[key] = [str(reply) for reply in record.get("replies", ())]
            self._probabilities[key] = [float(yes) for *_, yes in record.get("asked", ())]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{location} is not a recorded prediction: {error!r}") from error

    def reply_fn(self, key: str, image: Image, turns: Sequence[Turn]) -> str:  # noqa: ARG002  a script's signature
        n_replies = len(turns) // 2
        if n_replies == 0:
            self._next_question[key] = 0
        reply: str = _recorded_item(self._replies, key, n_replies, "reply")
        return reply

    def choice_fn(
        self,
        key: str,
        image: Image,  # noqa: ARG002
        turns: Sequence[Turn],  # noqa: ARG002
        question: str,  # noqa: ARG002
        options: Sequence[str],
    ) -> Sequence[float]:
        if len(options) != 2:
            raise UserError(f"a recording holds probabilities for two options, got {len(options)}")
        question_index = self._next_question.get(key, 0)
        yes = _recorded_item(self._probabilities, key, question_index, "answer to a question")
        self._next_question[key] = question_index + 1
        return yes, 1 - yes


def _recorded_item(recorded: dict[str, list[Any]], key: str, index: int, what: str) -> Any:
    if key not in recorded:
        raise UserError(f"nothing is recorded for {key!r}")
    if index >= len(recorded[key]):
        raise UserError(f"the recording of {key!r} has no further {what}")
    return recorded[key][index]


def _equal_weights(
    key: str,  # noqa: ARG001  a script's signature
    image: Image,  # noqa: ARG001
    turns: Sequence[Turn],  # noqa: ARG001
    question: str,  # noqa: ARG001
    options: Sequence[str],
) -> Sequence[float]:
    return [1.0] * len(options)
