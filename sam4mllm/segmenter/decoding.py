"""From what a SAM's decoder gives, logits at its own small size and guesses of their IoU, to masks of the image.

Knows no model: how logits become masks of the image is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam4mllm.errors import UserError
from sam4mllm.geometry import Mask
from sam4mllm.segmenter import ScoredMask

_PIXELS = 2**25
"""How many pixels of masks are enlarged at once: 128 MiB of floats."""


def scored_masks(
    logits: Float[Tensor, "n m h w"],
    scores: Float[Tensor, "n m"],
    enlarge: Callable[[Float[Tensor, "n h w"]], Bool[Tensor, "n height width"]],
    pixels: int,
) -> list[ScoredMask]:
    """For each prompt the mask that the model trusts most, the first of equals.

    Args:
        logits: of each prompt's masks, at the decoder's size.
        scores: the model's guesses of their IoU; what leaves 0..1 is cut.
        enlarge: from logits to masks of the image.
        pixels: how many a mask of the image has; only the best masks are enlarged, a bounded number at once.
    """
    chosen = scores.argmax(dim=1)
    rows = torch.arange(len(chosen), device=chosen.device)
    parts = torch.split(logits[rows, chosen], max(1, _PIXELS // pixels))
    masks: list[Mask] = [mask for part in parts for mask in enlarge(part).cpu().numpy()]
    trust = scores[rows, chosen].clamp(0, 1).tolist()
    return [ScoredMask(mask, score) for mask, score in zip(masks, trust, strict=True)]


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
