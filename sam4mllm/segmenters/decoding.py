"""From what a SAM's decoder gives, logits at its own small size and guesses of their IoU, to masks of the image.

Knows no model: how logits become masks of the image is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Mask
from sam4mllm.segmenters import ScoredMask
from sam4mllm.segmenters.enlarging import Enlarging

_PIXELS = 2**25
"""How many pixels of masks are enlarged at once: 128 MiB of floats."""

MULTIPLE = 8
"""To whose multiples groups are filled where drafts are to be the same whatever else is drawn: matrix products round
otherwise for the rows that are left over from their blocks. Measured with five model classes on AVX-512; the largest
difference that it takes away is 1e-5 of a logit."""


class LogitDrafts:
    """What a decoder drew for some prompts, as logits at its own size.

    Args:
        logits: of each prompt's mask, the one that the model trusts most of several.
        trust: the model's guess of its IoU, 0..1.
        enlarging: how they become logits of the picture.
        size: (height, width) of the picture.
        enlarge: from logits to masks of the picture, as the model's own code does it.
    """

    def __init__(
        self,
        logits: Float[Tensor, "n h w"],
        trust: Sequence[float],
        enlarging: Enlarging,
        size: tuple[int, int],
        enlarge: Callable[[Float[Tensor, "n h w"]], Bool[Tensor, "n height width"]],
    ) -> None:
        self._logits, self._trust, self._enlarging, self._enlarge = logits, trust, enlarging, enlarge
        self._most = max(1, _PIXELS // (size[0] * size[1]))

    @torch.inference_mode()
    def ious(self, rows: Sequence[int], mask: Mask) -> list[float]:
        """Exact but for pixels whose logits are 0 up to rounding."""
        parts = [self._enlarging.overlaps(part, mask) for part in torch.split(self._logits[list(rows)], self._most)]
        both, whole = (torch.cat(each).tolist() for each in zip(*parts, strict=True))
        return [shared / either if either else 1.0 for shared, either in zip(both, whole, strict=True)]

    @torch.inference_mode()
    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        """Enlarged a bounded number at once."""
        parts = torch.split(self._logits[list(rows)], self._most)
        masks: list[Mask] = [mask for part in parts for mask in self._enlarge(part).cpu().numpy()]
        return [ScoredMask(mask, self._trust[row]) for mask, row in zip(masks, rows, strict=True)]


def trusted(
    logits: Float[Tensor, "n m h w"], scores: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, "n h w"], list[float]]:
    """For each prompt the mask that the model trusts most, the first of equals, and that trust, cut to 0..1."""
    chosen = scores.argmax(dim=1)
    rows = torch.arange(len(chosen), device=chosen.device)
    return logits[rows, chosen], scores[rows, chosen].clamp(0, 1).tolist()


def in_order(
    found: Iterable[tuple[Sequence[int], tuple[Float[Tensor, "_ h w"], list[float]]]],
) -> tuple[Float[Tensor, "n h w"], list[float]]:
    """What `trusted` made of each group, group by group, in the order in which the prompts were given."""
    parts = [(rows, logits[: len(rows)], trust[: len(rows)]) for rows, (logits, trust) in found]
    places = torch.tensor([row for rows, _, _ in parts for row in rows]).argsort()
    logits = torch.cat([part for _, part, _ in parts])
    trust = [value for _, _, part in parts for value in part]
    return logits[places.to(logits.device)], [trust[place] for place in places.tolist()]


def on_device(model: Any, device: str | None) -> Any:
    """The model on the device of that name; on CUDA if there is one, where the name is None.

    Raises:
        UserError: for a device that is not there.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return model.to(name)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or a torch built without it
        raise UserError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
