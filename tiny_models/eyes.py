"""What the tiny MLLM's eyes are taught: each patch says in words where it is, which figure lies there, and its box.

From random weights words and pictures must be learned at once, and boxes stay random for tens of thousands of scenes;
eyes that see figures already shorten that to a few thousand. The words are those of the language model's own table, so
that a patch lies near the words for what it shows. Knows nothing of phrases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.synthetic import COLOURS, SHAPES, SIZES, Drawing
from tiny_models.model import PATCH, SIDE

CELLS = SIDE // PATCH
COVERED = 0.06  # of a patch, from where on it belongs to a figure
SHARP = 3.0  # the factor of a patch's likeness to a word
NAMES = tuple(("ground", *(f"Ġ{word}" for word in words)) for words in (SHAPES, COLOURS, SIZES))
PLACES = tuple(f"<p{place:03d}>" for place in range(SIDE + 1))
NEAR = 2.0  # pixels: the standard deviation about a true edge that counts as right


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


class Eyes(nn.Module):
    """The heads that read the labels off what the language model is shown of each patch; thrown away at the end.

    Args:
        width: numbers for each patch.
        token: from a token to its row in the table of words.
    """

    def __init__(self, width: int, token: Callable[[str], int]) -> None:
        super().__init__()
        self.rest = nn.Linear(width, 4 + PATCH**2)
        self.edges = nn.Linear(width, 4 * width)
        self.own = nn.Linear(width, 2 * width)
        self.names = [torch.tensor([token(name) for name in names]) for names in NAMES]
        self.places = torch.tensor([token(place) for place in PLACES])
        middles = PATCH * torch.arange(CELLS) + PATCH / 2
        self.middles = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1).reshape(-1, 2)

    def loss(
        self, shown: Float[Tensor, "scenes patches width"], table: Float[Tensor, "words width"], labels: Sequence[Dense]
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropies of the kinds, most of all the shape, and of the edges as places; L1 of the boxes; the parts.

        Args:
            shown: what the language model is shown of each patch.
            table: its embeddings of words.
            labels: of each scene.

        Returns:
            The loss, and figures for the log: the share of figures' patches whose shape is right, and the boxes' L1
            in shares of the picture.
        """
        kinds, boxes, parts, figured = (
            torch.from_numpy(np.stack([getattr(label, name) for label in labels])) for name in Dense.__slots__
        )
        likeness = functional.rms_norm(shown, shown.shape[-1:])
        shapes, colours, sizes = (SHARP * likeness @ table[names].T for names in self.names)
        everywhere = functional.cross_entropy(shapes.flatten(0, 1), kinds[..., 0].flatten())
        named = [
            functional.cross_entropy(found[figured], kinds[..., index][figured])
            for index, found in enumerate((shapes, colours, sizes))
        ]
        placed, pixels = torch.split(self.rest(shown), [4, PATCH**2], dim=-1)
        off = (placed - boxes).abs()[figured].mean()
        drawn = functional.binary_cross_entropy_with_logits(pixels, parts)
        said = self._said(self.edges(likeness[figured]), SIDE * boxes[figured], table, NEAR)
        own = self._said(self.own(likeness), self.middles.expand(len(labels), -1, -1), table, PATCH / 4)
        right = (shapes.argmax(-1) == kinds[..., 0])[figured].float().mean()
        total = everywhere + named[0] + 0.5 * (named[1] + named[2]) + 10 * off + 0.5 * drawn + 0.2 * (said + own)
        return total, {"shape": right.item(), "box": off.item()}

    def _said(
        self,
        said: Float[Tensor, "*n said"],
        true: Float[Tensor, "*n places"],
        table: Float[Tensor, "words width"],
        deviation: float,
    ) -> Tensor:
        """Cross-entropy of places said in the table's words against true ones in pixels."""
        words = said.reshape(true.numel(), -1)
        words = SHARP * functional.rms_norm(words, words.shape[-1:]) @ table[self.places].T
        return functional.cross_entropy(words, near(true.flatten(), deviation))


def near(places: Float[Tensor, "n"], deviation: float) -> Float[Tensor, "n places"]:
    """For true places in pixels, how much each pixel's place token counts as right: a normal distribution about it."""
    apart = torch.arange(SIDE + 1)[None] - places[:, None]
    weights = torch.exp(-0.5 * (apart / deviation) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
