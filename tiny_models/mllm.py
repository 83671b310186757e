"""Trains the tiny MLLM from random weights: first its image encoder, then boxes and names in conversations.

Run as ``python -m tiny_models.mllm RECIPE [key=value …]``; a stopped run resumes. The trained model finds boxes, names
the figure at a place, and answers whether a kind of figure is at a place. It is trained neither on replies with points
nor on the questions of PPG and PQPP, which are left to a LoRA.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import box_iou
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.rows import IGNORE_LABEL
from sam4mllm.prompters import Query
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.synthetic.scenes import Drawing, Level, Split, draw_split
from tiny_models.command import command
from tiny_models.eyes import PLACES, EncoderHeads, dense, near
from tiny_models.lessons import QuestionCounts, boxes_lessons
from tiny_models.loop import Loop, about, train
from tiny_models.model import PATCH, ROW, SIDE, build, unmet
from tiny_models.packing import Packer

log = logging.getLogger(__name__)
NEVER = -1e4  # the logit of masked tokens; not -inf, because -inf times 0 is NaN
BLURRED = 1.0  # pixels: standard deviation of the soft labels around a coordinate


@dataclass(frozen=True)
class MllmTraining:
    """The values of a training run of the tiny MLLM; comments in the recipe explain them."""

    out: str
    loop: Loop
    seed: int = 0
    scenes: int = 32
    objects: tuple[int, int] = (1, 3)
    twins: tuple[float, ...] = (0.15, 0.4)
    asked: QuestionCounts = field(default_factory=QuestionCounts)
    sight: float = 0.3
    start: str | None = None

    def __post_init__(self) -> None:
        Level(objects=self.objects)
        if self.seed < 0 or self.scenes < 1 or not self.twins or not all(0 <= share <= 0.85 for share in self.twins):
            raise UserError(
                f"seed must be 0 or more, scenes 1 or more and twins 0 to 0.85, got seed {self.seed}, "
                f"scenes {self.scenes} and twins {self.twins}"
            )


class Lessons:
    """The loss of each step, for a model that `loop.train` trains."""

    def __init__(self, model: Any, tokenizer: Any, recipe: MllmTraining) -> None:
        self.model, self.recipe = model, recipe
        token = tokenizer.convert_tokens_to_ids
        self.eyes = EncoderHeads(model.config.text_config.hidden_size, token)
        self.packer = Packer(tokenizer, (SIDE // PATCH) ** 2)
        self.image, self.first_place = token("<image>"), token(PLACES[0])
        self.unmet = unmet(tokenizer)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The encoder's auxiliary loss on a step's scenes and, after the first part, the loss of the replies."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, 1, step])
        levels = [Level(objects=recipe.objects, twins=twins) for twins in recipe.twins]
        drawings = [
            draw_split("train", int(rng.integers(2**40)), levels[index % len(levels)]) for index in range(recipe.scenes)
        ]
        table, patches = self.model.get_input_embeddings().weight, self.encode_patches(drawings)
        value, figures = self.eyes.loss(patches, table, [dense(drawing) for drawing in drawings])
        if step < recipe.loop.eyes:
            return value, figures
        loss, reply_figures = self.reply_loss(drawings, patches, rng)
        return loss + recipe.sight * value, figures | reply_figures

    def encode_patches(self, drawings: Sequence[Drawing]) -> Float[Tensor, "scenes patches width"]:
        """The patches for the language model: the encoder's last layer before the final norm, projected."""
        pixels = torch.from_numpy(np.stack([drawing.image for drawing in drawings]).transpose(0, 3, 1, 2))
        seen = self.model.model.vision_tower(pixels.float() / 127.5 - 1, output_hidden_states=True).hidden_states[-1]
        patches: Tensor = self.model.model.multi_modal_projector(seen)
        return patches

    def reply_loss(
        self, drawings: Sequence[Drawing], patches: Float[Tensor, "scenes patches width"], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the replies, with soft labels for coordinates."""
        recipe = self.recipe
        packed = self.packer.pack([boxes_lessons(drawing, recipe.asked, ROW, rng) for drawing in drawings])
        embedded = self.model.get_input_embeddings()(packed.ids).clone()
        embedded[packed.ids == self.image] = patches.flatten(0, 1)
        states = self.model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=torch.where(packed.mask, 0.0, torch.finfo(torch.float32).min),
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        labels = packed.labels[:, 1:]
        logits, labels = self.model.lm_head(states[:, :-1][labels != IGNORE_LABEL]), labels[labels != IGNORE_LABEL]
        logits[:, self.unmet] = NEVER
        places = labels - self.first_place
        placed = (places >= 0) & (places <= SIDE)
        soft_labels = torch.zeros(int(placed.sum()), logits.shape[1])
        soft_labels[:, self.first_place : self.first_place + SIDE + 1] = near(places[placed].float(), BLURRED)
        text_loss = functional.cross_entropy(logits[~placed], labels[~placed], reduction="sum")
        place_loss = functional.cross_entropy(logits[placed], soft_labels, reduction="sum")
        off = (logits[placed].argmax(-1) - labels[placed]).abs().float().mean()
        figures = {"words": text_loss.item() / int((~placed).sum()), "off": off.item()}
        return (text_loss + place_loss) / len(labels), figures


def make(recipe: MllmTraining) -> Path:
    """Train, or resume a stopped run, and return the model's folder."""
    out = Path(recipe.out)
    model, processor = build(recipe.seed)
    if recipe.start is not None:
        model = HfMLLM.load(recipe.start, device="cpu").model
    lessons = Lessons(model, processor.tokenizer, recipe)

    def saved(step: int) -> None:
        model.save_pretrained(out)
        processor.save_pretrained(out)
        if step > recipe.loop.eyes:
            boxes = measure(HfMLLM(model, processor, ROW), "val", 150)
            log.info("boxes found %s", " ".join(f"{name}: {share:.2f}" for name, share in boxes.items()))

    train({"model": model, "eyes": lessons.eyes}, lessons.loss, recipe.loop, out, saved, about(recipe))
    return out


def measure(mllm: HfMLLM, split: Split, count: int) -> dict[str, float]:
    """The share of boxes found among ``count`` expressions with one target, by number of figures in the scene."""
    levels = {f"{most} figures": Level(objects=(most, most), kinds=("res",)) for most in (1, 2, 3, 4)}
    levels["2 apart"] = Level(objects=(2, 2), kinds=("res",), twins=0, nested=0)  # no box fits both figures
    return {name: share_of_boxes_found(mllm, split, level, count) for name, level in levels.items()}


def share_of_boxes_found(mllm: HfMLLM, split: Split, level: Level, count: int) -> float:
    """The share of ``count`` expressions of one target whose box is found with an IoU of 0.5 or more."""
    queries, boxes, index = list[Query](), [], 0
    while len(queries) < count:
        drawing = draw_split(split, index, level)
        index += 1
        for expression in drawing.expressions:
            if len(expression.targets) == 1:
                queries.append(Query(drawing.image, expression.text))
                boxes.append(drawing.figures[expression.targets[0]].seen_box)
    hits = 0
    for start in range(0, count, 50):
        promptings = BoxPrompter(mllm)(queries[start : min(start + 50, count)])
        for prompting, box in zip(promptings, boxes[start:], strict=False):
            hits += len(prompting.prompts) == 1 and box_iou(prompting.prompts[0].extent, box) >= 0.5
    return hits / count


def _main(recipe: MllmTraining) -> None:
    for name, share in measure(HfMLLM.load(make(recipe), device="cpu"), "val", 1000).items():
        log.info("boxes found, %s: %.3f", name, share)


if __name__ == "__main__":
    command(MllmTraining, _main)
