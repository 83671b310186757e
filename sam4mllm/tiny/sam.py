"""The tiny SAM: a `SamModel` of half a million parameters, and its training on `shapes` from random weights.

Run as ``python -m sam4mllm.tiny.sam RECIPE [key=value …]``. Knows nothing of language.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import (
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from sam4mllm.geometry import Box, Mask, Prompt
from sam4mllm.sampling import clicks
from sam4mllm.segmenter.hf import HfSegmenter
from sam4mllm.settings import load
from sam4mllm.shapes import Drawing, Level, Split, draw_split

log = logging.getLogger(__name__)
SIDE, PATCH, WIDTH, DEPTH = 112, 7, 96, 3


@dataclass(frozen=True)
class SamTraining:
    """A training run of the tiny SAM; the recipe says what each value is for."""

    out: str
    seed: int = 0
    steps: int = 6000
    scenes: int = 16
    prompts: int = 4
    points: int = 6
    jitter: float = 0.08
    objects: tuple[int, int] = (1, 4)
    learning_rate: float = 1e-3
    every: int = 250


def build(seed: int) -> tuple[SamModel, SamProcessor]:
    """The model with random weights, and its processor; pictures are scaled to 112 pixels on their longer side."""
    torch.manual_seed(seed)
    sizes = {"image_size": SIDE, "patch_size": PATCH}
    vision = SamVisionConfig(
        hidden_size=WIDTH,
        output_channels=64,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        mlp_dim=WIDTH * 3,
        num_pos_feats=32,
        window_size=0,
        global_attn_indexes=list(range(DEPTH)),
        initializer_range=0.02,  # 1e-10 by default: the weights are meant to be loaded
        scale=1.0,  # by default random position features are so fine that nothing is learned from them
        **sizes,
    )
    prompts = SamPromptEncoderConfig(hidden_size=64, mask_input_channels=16, **sizes)
    decoder = SamMaskDecoderConfig(hidden_size=64, mlp_dim=256, num_attention_heads=4, iou_head_hidden_dim=64)
    side = {"height": SIDE, "width": SIDE}
    low = {"longest_edge": 4 * SIDE // PATCH}
    processor = SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size=side, mask_size=low, mask_pad_size={"height": 64, "width": 64}
    )
    return SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    ), SamProcessor(processor)


def jittered(box: Box, share: float, rng: np.random.Generator) -> Box:
    """The box with each edge moved by up to ``share`` of its size, inside the picture."""
    moved = rng.uniform(-share, share, 4) * [box.width, box.height, box.width, box.height] + box.xyxy
    x0, y0, x1, y1 = (float(edge) for edge in moved)
    return Box(x0, y0, x1, y1).clip(SIDE, SIDE)


def examples(drawing: Drawing, recipe: SamTraining, count: int, rng: np.random.Generator) -> list[tuple[Prompt, Mask]]:
    """Prompts of random figures of a scene with the masks they mean, ``count`` points each, drawn with replacement."""
    chosen = []
    for figure in rng.choice(len(drawing.figures), recipe.prompts):
        mask = drawing.figures[figure].mask
        box = jittered(drawing.figures[figure].seen_box, recipe.jitter, rng)
        positive = int(rng.integers(0, count + 1))
        points = clicks(mask, box, positive, count - positive, rng)
        points += clicks(mask, box, count - len(points), 0, rng)  # a box may hold nothing but the figure
        chosen.append((Prompt(box, points), mask))
    return chosen


def loss(
    logits: Float[Tensor, "scenes prompts masks h w"],
    scores: Float[Tensor, "scenes prompts masks"],
    truth: Tensor,
    certain: bool,
) -> Tensor:
    """Cross-entropy x 5 + dice, and the squared error of every mask's predicted IoU.

    Of the best of the masks where the prompt may mean several things, as in Segment Anything (appendix A, "Losses",
    with cross-entropy in the place of focal loss); of all of them where it is ``certain``, or they would go on being
    alternatives and points would be left unread.
    """
    truth = truth[:, :, None].expand_as(logits)
    crossed = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((-1, -2))
    likely = logits.sigmoid()
    dice = 1 - (2 * (likely * truth).sum((-1, -2)) + 1) / (likely.sum((-1, -2)) + truth.sum((-1, -2)) + 1)
    drawn, true = logits > 0, truth > 0.5
    ious = (drawn & true).sum((-1, -2)) / (drawn | true).sum((-1, -2)).clamp(min=1)
    each = 5 * crossed + dice
    return (each if certain else each.amin(-1)).mean() + functional.mse_loss(scores, ious)


def batch(recipe: SamTraining, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """The model's inputs of one step, and the true masks at the decoder's size; the same for the same step and seed."""
    rng = np.random.default_rng([recipe.seed, step])
    level = Level(objects=recipe.objects, kinds=("res",))
    count = int(rng.integers(0, recipe.points + 1))
    drawings: list[Drawing] = []
    chosen: list[list[tuple[Prompt, Mask]]] = []
    while len(drawings) < recipe.scenes:
        drawing = draw_split("train", int(rng.integers(2**40)), level)
        rows = examples(drawing, recipe, count, rng)
        if all(len(prompt.points) == count for prompt, _ in rows):  # a figure of few pixels may lack them
            drawings.append(drawing)
            chosen.append(rows)
    pixels = np.stack([drawing.image for drawing in drawings]).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(numbers)[:, None, None] for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    boxes = [[[edge - 0.5 for edge in prompt.box.xyxy] for prompt, _ in rows] for rows in chosen]
    inputs = {
        "pixel_values": torch.tensor((pixels - mean) / std, dtype=torch.float32),
        "input_boxes": torch.tensor(boxes),
    }
    if count:
        points = [[[(p.x - 0.5, p.y - 0.5) for p in prompt.points] for prompt, _ in rows] for rows in chosen]
        labels = [[[int(p.positive) for p in prompt.points] for prompt, _ in rows] for rows in chosen]
        inputs |= {"input_points": torch.tensor(points), "input_labels": torch.tensor(labels)}
    truth = torch.tensor(np.array([[mask for _, mask in rows] for rows in chosen]), dtype=torch.float32)
    return inputs, functional.interpolate(truth, size=(64, 64), mode="area").round()


def measure(
    model: SamModel, processor: SamProcessor, split: Split, scenes: int, points: tuple[int, ...] = (0, 1, 3)
) -> dict[int, float]:
    """cIoU in percent with the true box and so many points of each sign (one is positive alone), by that number."""
    segmenter, sums = HfSegmenter(model, processor), {number: [0, 0] for number in points}
    for drawing, figure, number, rng in _held_out(split, scenes, points):
        mask, box = drawing.figures[figure].mask, drawing.figures[figure].seen_box
        prompt = Prompt(box, clicks(mask, box, number, number if number > 1 else 0, rng))
        drawn = segmenter.embed(drawing.image).segment([prompt])[0].mask
        sums[number][0] += int((drawn & mask).sum())
        sums[number][1] += int((drawn | mask).sum())
    return {number: 100 * crossed / whole for number, (crossed, whole) in sums.items()}


def _held_out(
    split: Split, scenes: int, points: tuple[int, ...]
) -> Iterator[tuple[Drawing, int, int, np.random.Generator]]:
    for index in range(scenes):
        drawing = draw_split(split, index)
        for figure in range(len(drawing.figures)):
            for number in points:
                yield drawing, figure, number, np.random.default_rng([index, figure, number])


def train(recipe: SamTraining) -> Path:
    """Train, or go on from the checkpoint of a run that was stopped; returns the model's folder."""
    out = Path(recipe.out)
    model, processor = build(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.05
    )
    checkpoint, first = out / "checkpoint.pt", 0
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first = saved["step"]
    for step in range(first, recipe.steps):
        inputs, truth = batch(recipe, step)
        model.train()
        found = model(**inputs, multimask_output=True)
        certain = "input_points" in inputs and inputs["input_points"].shape[2] > 1
        value = loss(found.pred_masks, found.iou_scores, truth, certain)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % recipe.every == 0 or step + 1 == recipe.steps:
            _save(out, parts, step + 1)
            model.save_pretrained(out)
            processor.save_pretrained(out)
            log.info(
                "step %d loss %.3f cIoU by points %s", step + 1, value.item(), measure(model, processor, "val", 40)
            )
    return out


def _save(out: Path, parts: dict[str, Any], step: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "checkpoint.part"
    torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, temporary)
    temporary.replace(out / "checkpoint.pt")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(load(Path(sys.argv[1]), SamTraining, sys.argv[2:]))
