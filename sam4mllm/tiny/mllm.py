"""The tiny MLLM, from random weights: its eyes first, then boxes and names in conversations, through TRL.

Run as ``python -m sam4mllm.tiny.mllm RECIPE [key=value …]``; a run that was stopped goes on. It has never seen a
question about points when it is done: those are for a LoRA to teach.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sam4mllm.finetune import Training, finetune
from sam4mllm.geometry import box_iou
from sam4mllm.mllm import Conversation
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.settings import load
from sam4mllm.shapes import Level, Split, draw_split
from sam4mllm.tiny.lessons import boxes_lesson
from sam4mllm.tiny.model import ROW, build
from sam4mllm.tiny.tower import TowerTraining
from sam4mllm.tiny.tower import train as train_tower

log = logging.getLogger(__name__)
EYES = "eyes.pt"


@dataclass(frozen=True)
class MllmTraining:
    """A training run of the tiny MLLM; the recipe says what each value is for."""

    out: str
    tower: TowerTraining
    training: Training
    seed: int = 0
    objects: tuple[int, int] = (1, 3)
    names: int = 2
    there: int = 1
    turns: int = 12
    start: str | None = None


def train(recipe: MllmTraining) -> Path:
    """Train what is not trained yet, and return the model's folder."""
    out = Path(recipe.out)
    model, processor = build(recipe.seed)
    eyes = out / EYES
    tower = model.model.vision_tower
    if recipe.start is not None:
        model = HfMLLM.load(recipe.start, device="cpu").model.train()
    elif eyes.exists():
        tower.load_state_dict(torch.load(eyes, weights_only=True))
    else:
        train_tower(tower, model.config.vision_config.hidden_size, recipe.tower, recipe.seed)
        out.mkdir(parents=True, exist_ok=True)
        temporary = eyes.with_suffix(".part")
        torch.save(tower.state_dict(), temporary)
        temporary.replace(eyes)
    level = Level(objects=recipe.objects)

    def row(index: int) -> Conversation:
        drawing = draw_split("train", 2**41 + recipe.seed * 2**32 + index, level)
        rng = np.random.default_rng([recipe.seed, 2, index])
        return drawing.image, boxes_lesson(drawing, recipe.names, recipe.there, ROW, rng, recipe.turns)

    return finetune(HfMLLM(model, processor, ROW), row, recipe.training, out)


def found(mllm: HfMLLM, split: Split, level: Level, count: int) -> float:
    """The share of ``count`` expressions of one target whose box is found with an IoU of .5 or more."""
    queries, truths, index = list[Query](), [], 0
    while len(queries) < count:
        drawing = draw_split(split, index, level)
        index += 1
        for expression in drawing.expressions:
            if len(expression.targets) == 1:
                queries.append(Query(drawing.image, expression.text))
                truths.append(drawing.figures[expression.targets[0]].seen_box)
    hits = 0
    for start in range(0, count, 50):
        promptings = BoxPrompter(mllm)(queries[start : min(start + 50, count)])
        for prompting, truth in zip(promptings, truths[start:], strict=False):
            hits += len(prompting.prompts) == 1 and box_iou(prompting.prompts[0].box, truth) >= 0.5
    return hits / count


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load(Path(sys.argv[1]), MllmTraining, sys.argv[2:])
    mllm = HfMLLM.load(train(recipe), device="cpu")
    for most in (1, 2, 3, 4):
        level = Level(objects=(most, most), kinds=("res",))
        log.info("boxes found in scenes of %d: %.3f", most, found(mllm, "val", level, 400))
