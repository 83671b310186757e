"""An `MLLM` that says what a function says, or what was recorded: for tests, and to run the pipeline without weights.

A recording is a JSON Lines file, as predictions are written; of each line these fields are read:

    {"id": "refcoco-val-5342-0", "replies": ["[281,240,863,999]"], "asked": [[0, 93.5, 70.5, 0.97]]}

Knows nothing of models.
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

Says: TypeAlias = Callable[[str, Image, Sequence[Turn]], str]
Leans: TypeAlias = Callable[[str, Image, Sequence[Turn], str, Sequence[str]], Sequence[float]]


class ScriptedMLLM:
    """Answers by a function.

    Args:
        says: the reply to a picture's conversation, given its key, the picture and the turns, the last of them the
            user's.
        leans: how likely each option is, given the key, the picture, the turns so far, a question and the options;
            all alike by default. Scaled to sum to 1.
        dialect: how places are written; the paper's by default.
    """

    def __init__(self, says: Says, leans: Leans | None = None, dialect: Dialect = DIALECTS["sam4mllm"]) -> None:
        self._says, self._leans, self._dialect = says, leans or _undecided, dialect

    @classmethod
    def replay(cls, path: str | Path, dialect: Dialect = DIALECTS["sam4mllm"]) -> ScriptedMLLM:
        """Say what a predictions file recorded, by key: its replies one after the other, and its answers to questions.

        Whoever opens a key again hears the recording begin again. Where there are two options the first is given the
        recorded probability of "yes".

        Raises:
            UserError: for a file that cannot be read; later for a key that is not recorded, or has no more to say.
        """
        recording = Recording(Path(path))
        return cls(recording.says, recording.leans, dialect)

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    def open(self, images: Images, keys: Sequence[str] = ()) -> ScriptedChat:
        """Begin one conversation per picture; without ``keys`` all keys are empty."""
        return ScriptedChat(self._says, self._leans, images, keys or [""] * len(images))


class ScriptedChat:
    """Conversations whose replies a function gives; each picture is seen as it is."""

    def __init__(self, says: Says, leans: Leans, images: Images, keys: Sequence[str]) -> None:
        if len(keys) != len(images):
            raise ValueError(f"{len(keys)} keys for {len(images)} pictures")
        self._says, self._leans, self._images, self._keys = says, leans, images, keys
        self._turns: list[list[Turn]] = [[] for _ in images]

    @property
    def frames(self) -> Sequence[Frame]:
        return [Frame.whole(image.shape[1], image.shape[0]) for image in self._images]

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Ask one text per picture; a picture with an empty text is not asked."""
        if len(texts) != len(self._images):
            raise ValueError(f"{len(texts)} texts for {len(self._images)} pictures")
        return [self._answer(index, text) if text else Reply("") for index, text in enumerate(texts)]

    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """How likely each option is after each question, as the function says."""
        if len(questions) != len(self._images):
            raise ValueError(f"questions about {len(questions)} pictures for {len(self._images)} pictures")
        if len(options) < 2:
            raise ValueError(f"choosing needs at least two options, got {list(options)}")
        return [
            np.array([self._lean(index, question, options) for question in asked]).reshape(len(asked), len(options))
            for index, asked in enumerate(questions)
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
        chances: Float[np.ndarray, "options"] = weights / weights.sum()
        return chances


class Recording:
    """What was said of each key, in order."""

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the recording {path}: {error}") from error
        self._replies: dict[str, list[str]] = {}
        self._chances: dict[str, list[float]] = {}
        self._asked: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._take(line, f"{path}:{number}")

    def _take(self, line: str, place: str) -> None:
        try:
            record: dict[str, Any] = json.loads(line)
            key = str(record["id"])
            self._replies[key] = [str(reply) for reply in record.get("replies", ())]
            self._chances[key] = [float(yes) for *_, yes in record.get("asked", ())]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{place} is no recorded prediction: {error!r}") from error

    def says(self, key: str, image: Image, turns: Sequence[Turn]) -> str:  # noqa: ARG002  a script's signature
        said = len(turns) // 2
        if said == 0:
            self._asked[key] = 0
        reply: str = _at(self._replies, key, said, "reply")
        return reply

    def leans(
        self,
        key: str,
        image: Image,  # noqa: ARG002
        turns: Sequence[Turn],  # noqa: ARG002
        question: str,  # noqa: ARG002
        options: Sequence[str],
    ) -> Sequence[float]:
        if len(options) != 2:
            raise UserError(f"a recording answers questions with two options, got {len(options)}")
        asked = self._asked.get(key, 0)
        yes = _at(self._chances, key, asked, "answer to a question")
        self._asked[key] = asked + 1
        return yes, 1 - yes


def _at(said: dict[str, list[Any]], key: str, index: int, what: str) -> Any:
    if key not in said:
        raise UserError(f"nothing is recorded for {key!r}")
    if index >= len(said[key]):
        raise UserError(f"the recording of {key!r} has no further {what}")
    return said[key][index]


def _undecided(
    key: str,  # noqa: ARG001  a script's signature
    image: Image,  # noqa: ARG001
    turns: Sequence[Turn],  # noqa: ARG001
    question: str,  # noqa: ARG001
    options: Sequence[str],
) -> Sequence[float]:
    return [1.0] * len(options)
