"""Conversations with a transformers model: each picture is encoded once, and its prefix is fed once.

The first question's prompt is the prefix (or, where `choose` comes first, all up to the end of the picture); all that
is said later is fed to copies of it. Knows nothing of loading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage

from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.messages import Reply
from sam4mllm.mllm.hf.choose import choose, choose_next
from sam4mllm.mllm.hf.prefix import Prefix, feed, greedy, prefill
from sam4mllm.mllm.hf.template import PLACEHOLDERS, Template


@dataclass(frozen=True)
class Speaker:
    """A model with its template, and the limits it is asked under.

    Attributes:
        model: an image-text-to-text model.
        template: its chat template.
        max_new_tokens: where a reply is cut.
        bound: how many cached and new tokens one forward pass of `choose` may hold.
        pack: whether the questions of `choose` may share a row where every layer attends to all it is given.
        prefix_lm: whether the prompt's tokens attend to later ones, so that no part of a prompt can be reused.
    """

    model: Any
    template: Template
    max_new_tokens: int
    bound: int
    pack: bool
    prefix_lm: bool


@dataclass
class Row:
    """One conversation: what the user said, the ids that came after its cached prefix, and which row of it that is."""

    image: PilImage.Image
    texts: list[str] = field(default_factory=list)
    tail: list[int] = field(default_factory=list)
    prefix: Prefix | None = None
    at: int = 0


class HfChat:
    """A `Chat` with a transformers model.

    Args:
        speaker: who is talked to.
        images: one per conversation, as the processor is given them.
        frames: how the model sees each of them.
    """

    def __init__(self, speaker: Speaker, images: Sequence[PilImage.Image], frames: Sequence[Frame]) -> None:
        self._speaker, self._frames = speaker, tuple(frames)
        self._rows = [Row(image) for image in images]

    @property
    def frames(self) -> Sequence[Frame]:
        return self._frames

    @torch.inference_mode()
    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Ask one text per picture, and append both turns; a picture with an empty text is not asked."""
        if len(texts) != len(self._rows):
            raise ValueError(f"{len(texts)} texts for {len(self._rows)} pictures")
        said: dict[int, tuple[list[int], bool]] = {}
        unopened = [index for index, text in enumerate(texts) if text and self._rows[index].prefix is None]
        if unopened:
            inputs = self._inputs(unopened, [texts[index] for index in unopened])
            prefix = self._prefill(unopened, inputs)
            said.update(zip(unopened, self._greedy(prefix.rows(range(len(unopened)))), strict=True))
        opened = {
            index: [*self._rows[index].tail, *self._next(self._rows[index], text)]
            for index, text in enumerate(texts)
            if text and index not in said
        }
        for group in self._alike(opened):
            prefix = self._copy(group)
            feed(self._speaker.model, prefix, self._tensor([opened[index] for index in group]))
            said.update(zip(group, self._greedy(prefix), strict=True))
        return [self._append(index, text, opened.get(index, []), said.get(index)) for index, text in enumerate(texts)]

    @torch.inference_mode()
    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """How likely each option is as the reply to each question, every question asked alone."""
        if len(questions) != len(self._rows):
            raise ValueError(f"questions about {len(questions)} pictures for {len(self._rows)} pictures")
        if len(options) < 2:
            raise ValueError(f"choosing needs at least two options, got {list(options)}")
        template = self._speaker.template
        # with its end token, no option is the beginning of another
        ids = [[*template.reply(option), template.end_id] for option in options]
        self._open_pictures([i for i, asked in enumerate(questions) if asked and self._rows[i].prefix is None])
        return [
            self._choose(index, asked, ids) if asked else np.zeros((0, len(options)))
            for index, asked in enumerate(questions)
        ]

    def _choose(
        self, index: int, questions: Sequence[str], options: Sequence[Sequence[int]]
    ) -> Float[np.ndarray, "questions options"]:
        model, row = self._speaker.model, self._rows[index]
        if row.prefix is None:
            opened = (prefill(model, self._inputs([index], [question])) for question in questions)
            return np.stack([choose_next(model, prefix, options) for prefix in opened])
        asked = [[*row.tail, *self._next(row, question)] for question in questions]
        packed = self._speaker.pack and row.prefix.full_attention
        return choose(model, row.prefix.rows([row.at]), asked, options, self._speaker.bound, packed)

    def _open_pictures(self, indices: Sequence[int]) -> None:
        """Make the prompt up to the end of the picture the prefix, where prompts begin alike and can be cut there."""
        if not indices or self._speaker.prefix_lm:
            return
        inputs = self._inputs(indices, [PLACEHOLDERS[0]] * len(indices))
        rest = self._speaker.template.opening(PLACEHOLDERS[0])
        if all(row[-len(rest) :] == rest for row in inputs["input_ids"].tolist()):
            self._prefill(indices, inputs, len(rest))

    def _prefill(self, indices: Sequence[int], inputs: Mapping[str, Any], drop: int = 0) -> Prefix:
        prefix = prefill(self._speaker.model, inputs, drop)
        for at, index in enumerate(indices):
            self._rows[index].prefix, self._rows[index].at = prefix, at
        return prefix

    def _inputs(self, indices: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        model, images = self._speaker.model, [self._rows[index].image for index in indices]
        inputs = self._speaker.template.open(texts, images).to(model.device, dtype=model.dtype)
        return {name: value for name, value in inputs.items() if name != "labels"}  # some processors make them

    def _next(self, row: Row, text: str) -> list[int]:
        """The ids of the user's next turn, up to where the reply begins."""
        template = self._speaker.template
        return template.between([*row.texts, text]) if row.texts else template.opening(text)

    def _alike(self, tails: dict[int, list[int]]) -> list[list[int]]:
        """Rows of one prefix with as many new tokens: these can be fed together with no padding between."""
        groups = defaultdict[tuple[int, int], list[int]](list)
        for index, tail in tails.items():
            groups[id(self._rows[index].prefix), len(tail)].append(index)
        return list(groups.values())

    def _copy(self, group: Sequence[int]) -> Prefix:
        prefix = self._rows[group[0]].prefix
        assert prefix is not None  # rows are grouped once they are opened
        return prefix.rows([self._rows[index].at for index in group])

    def _greedy(self, prefix: Prefix) -> list[tuple[list[int], bool]]:
        speaker = self._speaker
        return greedy(speaker.model, prefix, speaker.template.end_ids, speaker.max_new_tokens)

    def _append(self, index: int, text: str, asked: list[int], said: tuple[list[int], bool] | None) -> Reply:
        if said is None:
            return Reply("")
        row, (ids, finished) = self._rows[index], said
        row.texts.append(text)
        row.tail = [*asked, *ids]
        return Reply(self._speaker.template.text(ids), finished)

    def _tensor(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(ids, device=self._speaker.model.device)
