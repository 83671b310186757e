"""Conversations with a transformers model. Each image is encoded once, and its prefix is cached.

The prefix is the prompt of the first question or, if `choose` comes first, everything up to the end of the image.
Later turns are fed to copies of the prefix.
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
from sam4mllm.mllm.hf.choose import choose, next_option_probabilities
from sam4mllm.mllm.hf.prefix import CachedPrefix, feed, greedy, prefill
from sam4mllm.mllm.hf.template import PROBE_TEXTS, Template


@dataclass(frozen=True)
class ChatModel:
    """A model, its chat template and the limits for generation.

    Attributes:
        model: an image-text-to-text model.
        template: its chat template.
        max_new_tokens: the maximum length of a reply.
        bound: the maximum number of cached and new tokens in one forward pass of `choose`.
        pack: whether `choose` may pack questions into one row if every layer has full attention.
        prefix_lm: whether prompt tokens attend to later ones, so that no part of a prompt can be reused.
    """

    model: Any
    template: Template
    max_new_tokens: int
    bound: int
    pack: bool
    prefix_lm: bool


@dataclass
class Row:
    """One conversation: image, user texts, ids after the cached prefix, the prefix, and its row in the prefix."""

    image: PilImage.Image
    texts: list[str] = field(default_factory=list)
    tail: list[int] = field(default_factory=list)
    prefix: CachedPrefix | None = None
    at: int = 0


class HfChat:
    """A `Chat` with a transformers model.

    Args:
        speaker: the model with its template and limits.
        images: one per conversation, prepared for the processor.
        frames: the frame of each image as the model sees it.
    """

    def __init__(self, speaker: ChatModel, images: Sequence[PilImage.Image], frames: Sequence[Frame]) -> None:
        self._speaker, self._frames = speaker, tuple(frames)
        self._rows = [Row(image) for image in images]

    @property
    def frames(self) -> Sequence[Frame]:
        return self._frames

    @torch.inference_mode()
    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Send one text per image and append both turns. An image with an empty text is skipped."""
        if len(texts) != len(self._rows):
            raise ValueError(f"{len(texts)} texts for {len(self._rows)} images")
        generated: dict[int, tuple[list[int], bool]] = {}
        unopened = [index for index, text in enumerate(texts) if text and self._rows[index].prefix is None]
        if unopened:
            inputs = self._inputs(unopened, [texts[index] for index in unopened])
            prefix = self._prefill(unopened, inputs)
            generated.update(zip(unopened, self._greedy(prefix.rows(range(len(unopened)))), strict=True))
        opened = {
            index: [*self._rows[index].tail, *self._next(self._rows[index], text)]
            for index, text in enumerate(texts)
            if text and index not in generated
        }
        for group in self._group_by_length(opened):
            prefix = self._copy(group)
            feed(self._speaker.model, prefix, self._tensor([opened[index] for index in group]))
            generated.update(zip(group, self._greedy(prefix), strict=True))
        return [
            self._append(index, text, opened.get(index, []), generated.get(index)) for index, text in enumerate(texts)
        ]

    @torch.inference_mode()
    def choose(
        self, questions: Sequence[Sequence[str]], options: Sequence[str]
    ) -> list[Float[np.ndarray, "questions options"]]:
        """The probability of each option as the reply to each question, every question on its own."""
        if len(questions) != len(self._rows):
            raise ValueError(f"questions about {len(questions)} images for {len(self._rows)} images")
        if len(options) < 2:
            raise ValueError(f"choosing needs at least two options, got {list(options)}")
        template = self._speaker.template
        # with an end token, no option is the start of another
        ids = [[*template.reply(option), template.end_id] for option in options]
        self._open_images(
            [
                index
                for index, image_questions in enumerate(questions)
                if image_questions and self._rows[index].prefix is None
            ]
        )
        return [
            self._choose(index, image_questions, ids) if image_questions else np.zeros((0, len(options)))
            for index, image_questions in enumerate(questions)
        ]

    def _choose(
        self, index: int, questions: Sequence[str], options: Sequence[Sequence[int]]
    ) -> Float[np.ndarray, "questions options"]:
        model, row = self._speaker.model, self._rows[index]
        if row.prefix is None:
            prefixes = (prefill(model, self._inputs([index], [question])) for question in questions)
            return np.stack([next_option_probabilities(model, prefix, options) for prefix in prefixes])
        question_ids = [[*row.tail, *self._next(row, question)] for question in questions]
        packed = self._speaker.pack and row.prefix.full_attention
        return choose(model, row.prefix.rows([row.at]), question_ids, options, self._speaker.bound, packed)

    def _open_images(self, indices: Sequence[int]) -> None:
        """Cache the prompt up to the end of the image, if prompts can be cut there."""
        if not indices or self._speaker.prefix_lm:
            return
        inputs = self._inputs(indices, [PROBE_TEXTS[0]] * len(indices))
        ending = self._speaker.template.opening_ids(PROBE_TEXTS[0])
        if all(row[-len(ending) :] == ending for row in inputs["input_ids"].tolist()):
            self._prefill(indices, inputs, len(ending))

    def _prefill(self, indices: Sequence[int], inputs: Mapping[str, Any], drop: int = 0) -> CachedPrefix:
        prefix = prefill(self._speaker.model, inputs, drop)
        for at, index in enumerate(indices):
            self._rows[index].prefix, self._rows[index].at = prefix, at
        return prefix

    def _inputs(self, indices: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
        model, images = self._speaker.model, [self._rows[index].image for index in indices]
        inputs = self._speaker.template.open(texts, images).to(model.device, dtype=model.dtype)
        return {name: value for name, value in inputs.items() if name != "labels"}  # some processors add them

    def _next(self, row: Row, text: str) -> list[int]:
        """The ids of the user's next turn, up to the start of the reply."""
        template = self._speaker.template
        return template.between([*row.texts, text]) if row.texts else template.opening_ids(text)

    def _group_by_length(self, tails: dict[int, list[int]]) -> list[list[int]]:
        """Group rows with the same prefix and the same number of new tokens: they need no padding."""
        groups = defaultdict[tuple[int, int], list[int]](list)
        for index, tail in tails.items():
            groups[id(self._rows[index].prefix), len(tail)].append(index)
        return list(groups.values())

    def _copy(self, group: Sequence[int]) -> CachedPrefix:
        prefix = self._rows[group[0]].prefix
        assert prefix is not None  # rows are grouped after they were opened
        return prefix.rows([self._rows[index].at for index in group])

    def _greedy(self, prefix: CachedPrefix) -> list[tuple[list[int], bool]]:
        speaker = self._speaker
        return greedy(speaker.model, prefix, speaker.template.end_ids, speaker.max_new_tokens)

    def _append(self, index: int, text: str, new_ids: list[int], generated: tuple[list[int], bool] | None) -> Reply:
        if generated is None:
            return Reply("")
        row, (ids, finished) = self._rows[index], generated
        row.texts.append(text)
        row.tail = [*new_ids, *ids]
        return Reply(self._speaker.template.text(ids), finished)

    def _tensor(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(ids, device=self._speaker.model.device)
