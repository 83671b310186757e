"""A decoder's logits at the picture's size, a part of the picture at a time: bilinear enlargement as two matrices.

Bilinear enlargement, also several in a row, is the same weighted mean of cells for a whole row of pixels, and for a
whole column. No weight is negative: where all cells that a pixel is made of are off, so is the pixel. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import interpolate

from sam4mllm.geometry.prompts import Mask

Step = tuple[int, int]
"""Enlarge to so many pixels, then keep so many of the first of them."""


class Enlarging:
    """From cells to pixels.

    Args:
        cells: (rows, columns) of the decoder.
        down: the steps from rows of cells to rows of the picture's pixels.
        across: likewise for columns.
        device: where the logits are.
    """

    def __init__(
        self, cells: tuple[int, int], down: Sequence[Step], across: Sequence[Step], device: torch.device
    ) -> None:
        self._down, self._across = _weights(cells[0], down).to(device), _weights(cells[1], across).to(device)

    def overlaps(
        self, logits: Float[Tensor, "n rows columns"], mask: Mask
    ) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
        """How many pixels each enlarged mask shares with a mask of the picture, and how many both have together.

        Only the part of the picture in which either lies is looked at.
        """
        on = logits > 0
        seen = torch.from_numpy(mask).to(logits.device)
        rows = _span((self._down[:, on.any(dim=2).any(dim=0)] > 0).any(dim=1) | seen.any(dim=1))
        columns = _span((self._across[:, on.any(dim=1).any(dim=0)] > 0).any(dim=1) | seen.any(dim=0))
        down, across, true = self._down[rows], self._across[columns], seen[rows, columns]
        high, wide = _span((down > 0).any(dim=0)), _span((across > 0).any(dim=0))
        drawn = down[:, high] @ logits[:, high, wide] @ across[:, wide].T > 0
        both = (drawn & true).sum(dim=(1, 2))
        return both, drawn.sum(dim=(1, 2)) + true.sum() - both


def _weights(cells: int, steps: Sequence[Step]) -> Float[Tensor, "pixels cells"]:
    """What each pixel takes of each cell, along one axis."""
    found = torch.eye(cells)[None]
    for size, kept in steps:
        found = interpolate(found, size=size, mode="linear", align_corners=False)[..., :kept]
    return found[0].T.contiguous()


def _span(there: Bool[Tensor, " n"]) -> slice:
    """From the first that is there to the last; empty where none is."""
    places = there.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
