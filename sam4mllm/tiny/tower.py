"""The tiny MLLM's eyes, taught first: each patch says which figure lies on it, where that one's box is, and its part.

From random weights words and pictures must be learned at once, and boxes stay random for tens of thousands of scenes;
eyes that see figures already shorten that to a few thousand. Knows nothing of language.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.shapes import COLOURS, SHAPES, SIZES, Drawing, Level, draw_split
from sam4mllm.tiny.model import PATCH, SIDE

log = logging.getLogger(__name__)
CELLS = SIDE // PATCH
COVERED = 0.06  # of a patch, from where on it belongs to a figure
KINDS = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1)  # with none


@dataclass(frozen=True)
class TowerTraining:
    """A training run of the eyes; the recipe says what each value is for."""

    steps: int = 2000
    scenes: int = 32
    objects: tuple[int, int] = (1, 3)
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """What each patch should say.

    Attributes:
        kinds: shape, colour and size of its figure, counted from 1; 0 for none.
        boxes: of what is seen of its figure, xyxy in shares of the picture.
        parts: its own pixels, 1 where they are the figure's.
        figured: whether a figure lies on it.
    """

    kinds: Int64[np.ndarray, "patches 3"]
    boxes: Float32[np.ndarray, "patches 4"]
    parts: Float32[np.ndarray, "patches pixels"]
    figured: Bool[np.ndarray, "patches"]


def dense(drawing: Drawing) -> Dense:
    """The labels of a scene of 112 x 112 pixels."""
    masks = np.stack([figure.mask for figure in drawing.figures])
    tiles = masks.reshape(-1, CELLS, PATCH, CELLS, PATCH).transpose(1, 3, 0, 2, 4).reshape(CELLS**2, len(masks), -1)
    cover = tiles.mean(axis=2)
    which, figured = cover.argmax(axis=1), cover.max(axis=1) >= COVERED
    names = [
        (SHAPES.index(figure.shape) + 1, COLOURS.index(figure.colour) + 1, SIZES.index(figure.size) + 1)
        for figure in drawing.figures
    ]
    boxes = np.array([figure.seen_box.xyxy for figure in drawing.figures], dtype=np.float32) / SIDE
    return Dense(
        np.where(figured[:, None], np.array(names)[which], 0),
        boxes[which],
        tiles[np.arange(len(tiles)), which].astype(np.float32),
        figured,
    )


def loss(said: Float[Tensor, "scenes patches numbers"], labels: list[Dense]) -> Tensor:
    """Cross-entropies of the kinds, most of all the shape, an L1 of the boxes, and a cross-entropy of the parts."""
    kinds = torch.from_numpy(np.stack([label.kinds for label in labels]))
    boxes = torch.from_numpy(np.stack([label.boxes for label in labels]))
    parts = torch.from_numpy(np.stack([label.parts for label in labels]))
    figured = torch.from_numpy(np.stack([label.figured for label in labels]))
    shapes, colours, sizes, places, pixels = torch.split(said, [*KINDS, 4, PATCH**2], dim=-1)
    everywhere = functional.cross_entropy(shapes.flatten(0, 1), kinds[..., 0].flatten())
    named = [
        functional.cross_entropy(found[figured], kinds[..., index][figured])
        for index, found in enumerate((shapes, colours, sizes))
    ]
    placed = (places - boxes).abs()[figured].mean()
    drawn = functional.binary_cross_entropy_with_logits(pixels, parts)
    total: Tensor = everywhere + named[0] + 0.5 * (named[1] + named[2]) + 10 * placed + 0.5 * drawn
    return total


def train(tower: Any, width: int, training: TowerTraining, seed: int) -> None:
    """Teach a vision tower in place; the head that says the labels is thrown away."""
    head = nn.Linear(width, sum(KINDS) + 4 + PATCH**2)
    weights = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1
    )
    level = Level(objects=training.objects, kinds=("res",))
    rng = np.random.default_rng([seed, 1])
    tower.train()
    for step in range(training.steps):
        drawings = [draw_split("train", int(rng.integers(2**40)), level) for _ in range(training.scenes)]
        pixels = torch.from_numpy(np.stack([drawing.image for drawing in drawings]).transpose(0, 3, 1, 2))
        # what the language model is shown: the last layer's output, before the tower's closing norm
        seen = tower(pixels.float() / 127.5 - 1, output_hidden_states=True).hidden_states[-1]
        value = loss(head(seen), [dense(drawing) for drawing in drawings])
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            log.info("eyes: step %d loss %.3f", step + 1, value.item())
