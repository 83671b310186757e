"""Auxiliary loss for the tiny MLLM's image encoder: each patch predicts its position, its figure and the figure's box.

With random weights, language and images are learned at the same time, and boxes stay random for tens of thousands of
scenes. Training the encoder first reduces this to a few thousand. Patches are classified by their similarity to the
language model's token embeddings, so that a patch is embedded near the words for its content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.synthetic.figures import COLOURS, SHAPES, SIZES
from sam4mllm.synthetic.scenes import Drawing
from tiny_models.model import PATCH, SIDE
from tiny_models.pixels import stack_labels, visible_boxes

CELLS = SIDE // PATCH
COVERED = 0.06  # the least share of a patch that a figure must cover
SHARP = 3.0  # scale of the similarity between a patch and a word
NAMES = tuple(("ground", *(f"Ġ{value}" for value in values)) for values in (SHAPES, COLOURS, SIZES))
PLACES = tuple(f"<p{place:03d}>" for place in range(SIDE + 1))
NEAR = 2.0  # pixels: standard deviation of the soft labels around an edge


@dataclass(frozen=True, slots=True, eq=False)
class PatchLabels:
    """The labels of each patch.

    Attributes:
        kinds: shape, colour and size of its figure, starting at 1; 0 without a figure.
        boxes: the box of the figure's visible part, xyxy, as shares of the image's size.
        parts: the patch's pixels: 1 on the figure, otherwise 0.
        figured: whether the patch belongs to a figure.
    """

    kinds: Int64[np.ndarray, "patches 3"]
    boxes: Float32[np.ndarray, "patches 4"]
    parts: Float32[np.ndarray, "patches pixels"]
    figured: Bool[np.ndarray, "patches"]


def dense(drawing: Drawing) -> PatchLabels:
    """The labels of a scene of 112 x 112 pixels."""
    masks = np.stack([figure.mask for figure in drawing.figures])
    tiles = masks.reshape(-1, CELLS, PATCH, CELLS, PATCH).transpose(1, 3, 0, 2, 4).reshape(CELLS**2, len(masks), -1)
    cover = tiles.mean(axis=2)
    which, figured = cover.argmax(axis=1), cover.max(axis=1) >= COVERED
    names = [
        (SHAPES.index(figure.shape) + 1, COLOURS.index(figure.colour) + 1, SIZES.index(figure.size) + 1)
        for figure in drawing.figures
    ]
    return PatchLabels(
        np.where(figured[:, None], np.array(names)[which], 0),
        visible_boxes(drawing)[which],
        tiles[np.arange(len(tiles)), which].astype(np.float32),
        figured,
    )


class EncoderHeads(nn.Module):
    """Heads that predict the labels from the projected patches; they are not saved with the model.

    Args:
        width: length of a projected patch.
        token: returns the id of a token.
    """

    def __init__(self, width: int, token: Callable[[str], int]) -> None:
        super().__init__()
        self.box_and_pixels = nn.Linear(width, 4 + PATCH**2)
        self.edges = nn.Linear(width, 4 * width)
        self.position = nn.Linear(width, 2 * width)
        self.names = [torch.tensor([token(name) for name in names]) for names in NAMES]
        self.places = torch.tensor([token(place) for place in PLACES])
        middles = PATCH * torch.arange(CELLS) + PATCH / 2
        self.middles = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1).reshape(-1, 2)

    def loss(
        self,
        patches: Float[Tensor, "scenes patches width"],
        table: Float[Tensor, "words width"],
        labels: Sequence[PatchLabels],
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropies of kinds (mostly the shape), edges, positions and parts, and the L1 loss of the boxes.

        Args:
            patches: the projected patches, as the language model receives them.
            table: the language model's token embeddings.
            labels: the labels of each scene.

        Returns:
            The loss, and for the log the share of figure patches with the correct shape, and the L1 loss of the boxes
            as a share of the image's size.
        """
        kinds, boxes, parts, figured = stack_labels(labels)
        likeness = functional.rms_norm(patches, patches.shape[-1:])
        shapes, colours, sizes = (SHARP * likeness @ table[names].T for names in self.names)
        everywhere = functional.cross_entropy(shapes.flatten(0, 1), kinds[..., 0].flatten())
        named = [
            functional.cross_entropy(logits[figured], kinds[..., index][figured])
            for index, logits in enumerate((shapes, colours, sizes))
        ]
        placed, pixels = torch.split(self.box_and_pixels(patches), [4, PATCH**2], dim=-1)
        off = (placed - boxes).abs()[figured].mean()
        part_loss = functional.binary_cross_entropy_with_logits(pixels, parts)
        edges = self._place_loss(self.edges(likeness[figured]), SIDE * boxes[figured], table, NEAR)
        positions = self._place_loss(
            self.position(likeness), self.middles.expand(len(labels), -1, -1), table, PATCH / 4
        )
        right = (shapes.argmax(-1) == kinds[..., 0])[figured].float().mean()
        total = (
            everywhere + named[0] + 0.5 * (named[1] + named[2]) + 10 * off + 0.5 * part_loss + 0.2 * (edges + positions)
        )
        return total, {"shape": right.item(), "box": off.item()}

    def _place_loss(
        self,
        vectors: Float[Tensor, "*n vectors"],
        true: Float[Tensor, "*n places"],
        table: Float[Tensor, "words width"],
        deviation: float,
    ) -> Tensor:
        """Cross-entropy of places, predicted as similarities to the place tokens, against true ones in pixels."""
        queries = vectors.reshape(true.numel(), -1)
        logits = SHARP * functional.rms_norm(queries, queries.shape[-1:]) @ table[self.places].T
        return functional.cross_entropy(logits, near(true.flatten(), deviation))


def near(places: Float[Tensor, "n"], deviation: float) -> Float[Tensor, "n places"]:
    """Soft labels over the place tokens for places in pixels: a normal distribution around each place."""
    distance = torch.arange(SIDE + 1)[None] - places[:, None]
    weights = torch.exp(-0.5 * (distance / deviation) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
