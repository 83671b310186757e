"""The tiny SAM: a `SamModel` with half a million parameters, trained on synthetic scenes from random weights.

Run as ``python -m tiny_models.sam RECIPE [key=value …]``; a stopped run resumes.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
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

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Mask, Prompt
from sam4mllm.geometry.sampling import clicks, jitter_box
from sam4mllm.segmenters.hf import HfSegmenter
from sam4mllm.synthetic.scenes import Drawing, Level, draw_split
from tiny_models.command import command
from tiny_models.loop import Loop, about
from tiny_models.loop import train as optimize
from tiny_models.pixels import Pixels, coloured
from tiny_models.reading import DecoderHeads

log = logging.getLogger(__name__)
SIDE, PATCH, WIDTH, DEPTH = 112, 7, 96, 4
WEIGHTS = 0.12  # initial standard deviation; with the usual 0.02, gradients vanish in such narrow layers
TWINS = Level(objects=(2, 2), twins=1.0, nested=0.0)


@dataclass(frozen=True)
class SamTraining:
    """The values of a training run of the tiny SAM; comments in the recipe explain them."""

    out: str
    loop: Loop
    seed: int = 0
    scenes: int = 16
    prompts: int = 4
    points: int = 6
    boxless: float = 0.25
    jitter: float = 0.08
    objects: tuple[int, int] = (1, 4)
    twins: float = 0.5
    grain: float = 0.5
    reading: float = 0.5
    start: str | None = None

    def __post_init__(self) -> None:
        Level(objects=self.objects, twins=self.twins)
        if self.seed < 0 or min(self.scenes, self.prompts, self.points) < 1 or not 0 <= self.boxless < 1:
            raise UserError(
                f"seed must be 0 or more, scenes, prompts and points 1 or more, and boxless 0 to less than 1, got seed "
                f"{self.seed}, scenes {self.scenes}, prompts {self.prompts}, points {self.points} "
                f"and boxless {self.boxless}"
            )


def build(seed: int) -> tuple[SamModel, SamProcessor]:
    """The model with random weights, and its processor; images are scaled to 112 pixels on their longer side."""
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
        initializer_range=WEIGHTS,  # the default of 1e-10 is for weights that are loaded afterwards
        use_rel_pos=False,  # saves half the time of attention; absolute positions are enough
        scale=1.0,  # the default gives position features of too high a frequency to learn from
        **sizes,
    )
    prompts = SamPromptEncoderConfig(hidden_size=64, mask_input_channels=16, **sizes)
    decoder = SamMaskDecoderConfig(
        hidden_size=64,
        mlp_dim=256,
        num_attention_heads=2,  # with more heads, each would be too narrow to locate a point
        iou_head_hidden_dim=64,
    )
    side = {"height": SIDE, "width": SIDE}
    low = {"longest_edge": 4 * SIDE // PATCH}
    processor = SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size=side, mask_size=low, mask_pad_size={"height": 64, "width": 64}
    )
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder, initializer_range=WEIGHTS
    )
    return SamModel(config), SamProcessor(processor)


def examples(
    drawing: Drawing, recipe: SamTraining, count: int, boxed: bool, rng: np.random.Generator
) -> list[tuple[Prompt, Mask]]:
    """Prompts with ``count`` points for random figures of a scene, drawn with replacement, and the figures' masks.

    Points are inside the box even if the prompt has no box; at least one of them is then on the figure.
    """
    chosen = []
    for figure in rng.choice(len(drawing.figures), recipe.prompts):
        mask = drawing.figures[figure].mask
        box = jitter_box(drawing.figures[figure].seen_box, recipe.jitter, SIDE, SIDE, rng)
        positive = int(rng.integers(0 if boxed else 1, count + 1)) if count else 0
        points = clicks(mask, box, positive, count - positive, rng)
        points += clicks(mask, box, count - len(points), 0, rng)  # the figure may fill its box
        chosen.append((Prompt(box, points), mask))
    return chosen


def loss(
    logits: Float[Tensor, "scenes prompts masks h w"],
    scores: Float[Tensor, "scenes prompts masks"],
    ground_truth: Tensor,
    certain: bool,
) -> Tensor:
    """Cross-entropy x 5 + dice, and the squared error of each mask's predicted IoU.

    For ambiguous prompts only the best mask counts, as in Segment Anything (appendix A, "Losses", with cross-entropy
    instead of focal loss). For ``certain`` prompts all masks count; otherwise they would stay alternatives and points
    would have no effect.
    """
    ground_truth = ground_truth[:, :, None].expand_as(logits)
    crossed = functional.binary_cross_entropy_with_logits(logits, ground_truth, reduction="none").mean((-1, -2))
    likely = logits.sigmoid()
    dice = 1 - (2 * (likely * ground_truth).sum((-1, -2)) + 1) / (likely.sum((-1, -2)) + ground_truth.sum((-1, -2)) + 1)
    predicted, true = logits > 0, ground_truth > 0.5
    ious = (predicted & true).sum((-1, -2)) / (predicted | true).sum((-1, -2)).clamp(min=1)
    losses = 5 * crossed + dice
    return (losses if certain else losses.amin(-1)).mean() + functional.mse_loss(scores, ious)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The inputs and labels of a step.

    Attributes:
        drawings: the scenes.
        pixels: the preprocessed images.
        prompts: the model's other inputs.
        masks: the target masks at image size.
        ground_truth: the target masks at the decoder's size.
        points: the colours at the points, starting at 1, 0 for the background; None without points.
        targets: the colours of the target figures.
        certain: whether the prompts are unambiguous: two or more points, or points without a box.
    """

    drawings: list[Drawing]
    pixels: Float[Tensor, "scenes 3 h w"]
    prompts: dict[str, Tensor]
    masks: Float[Tensor, "scenes prompts h w"]
    points: Int64[Tensor, "scenes prompts points"] | None
    targets: Int64[Tensor, "scenes prompts"]
    ground_truth: Float[Tensor, "scenes prompts rows columns"]
    certain: bool


def batch(recipe: SamTraining, step: int) -> Batch:
    """The batch of a step; it depends only on the step and the recipe."""
    rng = np.random.default_rng([recipe.seed, step])
    level = Level(objects=recipe.objects, kinds=("res",), twins=recipe.twins)
    boxed = bool(rng.random() >= recipe.boxless)
    count = int(rng.integers(0 if boxed else 1, recipe.points + 1))
    drawings: list[Drawing] = []
    chosen: list[list[tuple[Prompt, Mask]]] = []
    while len(drawings) < recipe.scenes:
        drawing = draw_split("train", int(rng.integers(2**40)), level)
        rows = examples(drawing, recipe, count, boxed, rng)
        if all(len(prompt.points) == count for prompt, _ in rows):  # a small figure may have too few pixels
            drawings.append(drawing)
            chosen.append(rows)
    prompts = {}
    if boxed:
        boxes = [[[edge - 0.5 for edge in prompt.extent.xyxy] for prompt, _ in rows] for rows in chosen]
        prompts["input_boxes"] = torch.tensor(boxes)
    if count:
        points = [[[(p.x - 0.5, p.y - 0.5) for p in prompt.points] for prompt, _ in rows] for rows in chosen]
        labels = [[[int(p.positive) for p in prompt.points] for prompt, _ in rows] for rows in chosen]
        prompts |= {"input_points": torch.tensor(points), "input_labels": torch.tensor(labels)}
    masks = torch.tensor(np.array([[mask for _, mask in rows] for rows in chosen]), dtype=torch.float32)
    ground_truth = functional.interpolate(masks, size=(64, 64), mode="area").round()
    colours = [coloured(drawing) for drawing in drawings]
    point_colours = [
        [[plane[int(p.y), int(p.x)] for p in prompt.points] for prompt, _ in rows]
        for rows, plane in zip(chosen, colours, strict=True)
    ]
    targets = [[plane[mask].max() for _, mask in rows] for rows, plane in zip(chosen, colours, strict=True)]
    return Batch(
        drawings,
        _pixels(drawings),
        prompts,
        masks,
        torch.tensor(np.array(point_colours)) if count else None,
        torch.tensor(np.array(targets)),
        ground_truth,
        count > 1 or not boxed,
    )


def _pixels(drawings: Sequence[Drawing]) -> Float[Tensor, "scenes 3 h w"]:
    pixels = np.stack([drawing.image for drawing in drawings]).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(numbers)[:, None, None] for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return torch.tensor((pixels - mean) / std, dtype=torch.float32)


def measure(model: SamModel, processor: SamProcessor, scenes: int, level: Level | None = None) -> dict[int, float]:
    """cIoU in percent on val by clicks: with the true box and no click, 1 positive, or 3 positive and 3 negative."""
    segmenter, sums = HfSegmenter(model, processor), {number: [0, 0] for number in (0, 1, 3)}
    for index in range(scenes):
        drawing = draw_split("val", index, level)
        scene = segmenter.embed(drawing.image)
        for figure, number in itertools.product(range(len(drawing.figures)), sums):
            rng = np.random.default_rng([index, figure, number])
            mask, box = drawing.figures[figure].mask, drawing.figures[figure].seen_box
            prompt = Prompt(box, clicks(mask, box, number, number if number > 1 else 0, rng))
            [segmented] = scene.segment([prompt])
            sums[number][0] += int((segmented.mask & mask).sum())
            sums[number][1] += int((segmented.mask | mask).sum())
    return {number: round(100 * intersection / union, 1) for number, (intersection, union) in sums.items()}


def train(recipe: SamTraining) -> Path:
    """Train, or resume a stopped run, and return the model's folder."""
    out = Path(recipe.out)
    model, processor = build(recipe.seed)
    if recipe.start is not None:
        model.vision_encoder.load_state_dict(
            HfSegmenter.load(recipe.start, device="cpu").model.vision_encoder.state_dict()
        )
    torch.manual_seed(recipe.seed)
    pixels = Pixels(model.config.vision_config.output_channels, PATCH)
    reading = DecoderHeads(model.mask_decoder, model.config.mask_decoder_config.hidden_size, PATCH)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = batch(recipe, step)
        # get_image_embeddings would not keep gradients
        embedding = model.vision_encoder(chosen.pixels).last_hidden_state
        seen, figures = pixels.loss(embedding, chosen.drawings)
        if step < recipe.loop.eyes:
            return seen, figures
        output = model(image_embeddings=embedding, **chosen.prompts, multimask_output=True)
        value = loss(output.pred_masks, output.iou_scores, chosen.ground_truth, chosen.certain)
        figures["drawn"] = value.item()
        value = value + recipe.grain * seen
        if not chosen.certain:
            return value, figures
        read, more = reading.loss(chosen.points, chosen.targets, chosen.masks)
        return value + recipe.reading * read, figures | more

    def saved(step: int) -> None:
        model.save_pretrained(out)
        processor.save_pretrained(out)
        if step > recipe.loop.eyes:
            log.info(
                "cIoU by points %s, of twins %s", measure(model, processor, 40), measure(model, processor, 40, TWINS)
            )

    modules = {"model": model, "pixels": pixels, "reading": reading}
    optimize(modules, loss_of, recipe.loop, out, saved, about(recipe))
    return out


if __name__ == "__main__":
    command(SamTraining, lambda recipe: log.info("written to %s", train(recipe)))
