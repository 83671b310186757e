"""Small samples and targets for training, and a tokenizer whose tokens are words."""

from collections.abc import Sequence

import numpy as np

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.targets.record import Target
from sam4mllm.training.dataset.mixture import Mixture

WIDTH, HEIGHT = 100, 50
MUTE = ScriptedMLLM(lambda *_: "none")
CLICKS = [Point(20.5, 20.5), Point(20.5, 24.5), Point(24.5, 20.5)]
OFF = [Point(x, 11.5, positive=False) for x in (11.5, 13.5, 15.5)]
KEPT = Prompt(Box(10, 10, 40, 40), (*CLICKS, *OFF))
PPG, PQPP, LISTED, BOX = (
    Mixture(**{"ppg": 0, "pqpp": 0, "listed": 0, "box": 0, kind: 1}) for kind in ("ppg", "pqpp", "listed", "box")
)


class Words:
    """Each word is a token. A turn has one more token, which is trained on if the turn is a reply."""

    def texts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def conversation(self, turns: Sequence[Turn]) -> tuple[int, int]:
        sizes = [len(turn.text.split()) + 1 for turn in turns]
        return sum(sizes), sum(sizes[1::2])

    def find_special_token(self, text: str) -> str | None:
        return next((mark for mark in ("<image>", "[END]") if mark in text), None)

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        return [width // 10 for width, _ in sizes]


def disc(x: int) -> Rle:
    """A disc with a diameter of 30 pixels; its box has pixels off the disc."""
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    return Rle.from_mask(np.hypot(columns - x - 15, rows - 25) < 15)


def sample(name: str, image: str = "0.png", masks: tuple[Rle, ...] = (disc(10),), phrase: str = "the cup") -> Sample:
    return Sample(name, image, WIDTH, HEIGHT, phrase, masks)


def target(name: str, index: int = 0, kept: tuple[Prompt, ...] = (KEPT,)) -> dict[tuple[str, int], Target]:
    return {(name, index): Target(name, index, kept, (0.9,) * len(kept), 0.9)}
