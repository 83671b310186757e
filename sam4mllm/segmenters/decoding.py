"""Masks of the image from the outputs of a SAM decoder: logits at the decoder's size and predicted IoUs.

The code works for any SAM: the function that enlarges logits to masks of the image is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Mask
from sam4mllm.segmenters import ScoredMask

_PIXELS = 2**25
"""The number of mask pixels to enlarge at once: 128 MiB of floats."""

GROUP_MULTIPLE = 8
"""Groups of drafts are padded to a multiple of this size, so that a draft does not depend on the rest of its group:
matrix products round differently in rows beyond a full block. Measured with five model classes on AVX-512; the largest
difference without padding is 1e-5 of a logit."""


class LogitDrafts:
    """The logits of one mask per prompt, at the decoder's own size.

    Args:
        logits: of the mask with the highest predicted IoU, for each prompt.
        scores: this predicted IoU, 0..1.
        image_fraction: the fraction of the decoder's (rows, columns) that the image covers; the rest is padding.
        size: (height, width) of the image.
        enlarge: turns logits into masks of the image, with the model's own code.
    """

    def __init__(
        self,
        logits: Float[Tensor, "n h w"],
        scores: Sequence[float],
        image_fraction: tuple[float, float],
        size: tuple[int, int],
        enlarge: Callable[[Float[Tensor, "n h w"]], Bool[Tensor, "n height width"]],
    ) -> None:
        self._logits, self._scores, self._enlarge = logits, scores, enlarge
        self._cells = [
            max(1, round(cells * share)) for cells, share in zip(logits.shape[1:], image_fraction, strict=True)
        ]
        self._at_once = max(1, _PIXELS // (size[0] * size[1]))

    @torch.inference_mode()
    def approximate_ious(self, rows: Sequence[int], mask: Mask) -> list[float]:
        """Soft IoUs of the predicted probabilities with the fraction of each cell that the mask covers."""
        height, width = self._cells
        probabilities = self._logits[list(rows), :height, :width].sigmoid()
        pixels = torch.from_numpy(mask)[None, None].to(probabilities)
        coverage = interpolate(pixels, size=(height, width), mode="area")[0]
        intersections = torch.minimum(probabilities, coverage).sum(dim=(1, 2))
        unions = torch.maximum(probabilities, coverage).sum(dim=(1, 2))
        ious: list[float] = (intersections / unions).tolist()
        return ious

    @torch.inference_mode()
    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        """Masks at the size of the image, enlarged in chunks of bounded memory."""
        chunks = torch.split(self._logits[list(rows)], self._at_once)
        masks: list[Mask] = [mask for chunk in chunks for mask in self._enlarge(chunk).cpu().numpy()]
        return [ScoredMask(mask, self._scores[row]) for mask, row in zip(masks, rows, strict=True)]


def pick_best(
    logits: Float[Tensor, "n m h w"], scores: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, "n h w"], list[float]]:
    """The mask with the highest predicted IoU for each prompt, and that IoU clipped to 0..1. The first wins a tie."""
    chosen = scores.argmax(dim=1)
    rows = torch.arange(len(chosen), device=chosen.device)
    return logits[rows, chosen], scores[rows, chosen].clamp(0, 1).tolist()


def merge_groups(
    groups: Iterable[tuple[Sequence[int], tuple[Float[Tensor, "_ h w"], list[float]]]],
) -> tuple[Float[Tensor, "n h w"], list[float]]:
    """The results of `pick_best` for each group, in the order of the prompts and without the groups' padding."""
    unpadded = [(rows, logits[: len(rows)], scores[: len(rows)]) for rows, (logits, scores) in groups]
    order = torch.tensor([row for rows, _, _ in unpadded for row in rows]).argsort()
    logits = torch.cat([values for _, values, _ in unpadded])
    scores = [score for _, _, values in unpadded for score in values]
    return logits[order.to(logits.device)], [scores[row] for row in order.tolist()]


def move_to_device(model: Any, device: str | None) -> Any:
    """The model on a device; by default CUDA if available, else the CPU.

    Raises:
        UserError: if the device is not available.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return model.to(name)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or a torch without support for it
        raise UserError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
