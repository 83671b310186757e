"""Auxiliary loss for the tiny SAM's encoder: each patch predicts the colours of its pixels and a box.

Without this loss, points have no effect: the decoder cannot tell the figures at points apart until the encoder does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.synthetic.figures import COLOURS
from sam4mllm.synthetic.scenes import Drawing

SEEN = 4  # the least number of a figure's pixels in a patch that belongs to it


@dataclass(frozen=True, slots=True, eq=False)
class PixelLabels:
    """The labels of each patch.

    Attributes:
        colours: the colour of each pixel's figure, starting at 1; 0 for the background. Touching figures differ.
        boxes: the visible box of the figure with the most pixels in the patch, xyxy, as shares of the image's size.
        figured: whether the patch belongs to a figure.
    """

    colours: Int64[np.ndarray, "patches pixels"]
    boxes: Float32[np.ndarray, "patches 4"]
    figured: Bool[np.ndarray, "patches"]


def grain(drawing: Drawing, patch: int) -> PixelLabels:
    """The labels of a scene, whose sides are multiples of ``patch``."""
    side = drawing.image.shape[0]
    owners = np.zeros((side, side), dtype=np.int64)
    for number, figure in enumerate(drawing.figures):
        owners[figure.mask] = number + 1
    tiles = _tiles(owners, patch)
    counts = (tiles[:, :, None] == np.arange(1, len(drawing.figures) + 1)).sum(axis=1)
    boxes = visible_boxes(drawing)
    return PixelLabels(_tiles(coloured(drawing), patch), boxes[counts.argmax(axis=1)], counts.max(axis=1) >= SEEN)


def visible_boxes(drawing: Drawing) -> Float32[np.ndarray, "figures 4"]:
    """The visible box of each figure, xyxy, as shares of the image's size."""
    boxes = np.array([figure.seen_box.xyxy for figure in drawing.figures], dtype=np.float32)
    shares: Float32[np.ndarray, "figures 4"] = boxes / drawing.image.shape[0]
    return shares


def stack_labels(labels: Sequence[Any]) -> list[Tensor]:
    """Each attribute of the labels of several scenes as one tensor, in the order of the attributes."""
    return [
        torch.from_numpy(np.stack([getattr(label, name) for label in labels])) for name in type(labels[0]).__slots__
    ]


def coloured(drawing: Drawing) -> Int64[np.ndarray, "h w"]:
    """The colour of each pixel's figure, starting at 1; 0 for the background."""
    plane = np.zeros(drawing.image.shape[:2], dtype=np.int64)
    for figure in drawing.figures:
        plane[figure.mask] = COLOURS.index(figure.colour) + 1
    return plane


class Pixels(nn.Module):
    """A head that predicts the labels from an embedding; it is not saved with the model."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch, self.kinds = patch, len(COLOURS) + 1
        self.head = nn.Linear(channels, patch**2 * self.kinds + 4)

    def loss(
        self, embedding: Float[Tensor, "scenes channels h w"], drawings: Sequence[Drawing]
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the pixel colours + 5 x L1 of the boxes, and both terms for the log."""
        colours, boxes, figured = stack_labels([grain(drawing, self.patch) for drawing in drawings])
        colour_logits, placed = torch.split(self.head(embedding.flatten(2).mT), [self.patch**2 * self.kinds, 4], dim=-1)
        named = functional.cross_entropy(colour_logits.reshape(-1, self.kinds), colours.flatten())
        off = (placed - boxes).abs()[figured].mean()
        return named + 5 * off, {"pixels": named.item(), "box": off.item()}


def _tiles(plane: Int64[np.ndarray, "h w"], patch: int) -> Int64[np.ndarray, "patches pixels"]:
    cells = plane.shape[0] // patch
    return plane.reshape(cells, patch, cells, patch).transpose(0, 2, 1, 3).reshape(cells**2, patch**2)
