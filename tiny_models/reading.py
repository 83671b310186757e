"""What the tiny SAM's decoder is taught beside drawing: points say what lies there, masks' tokens what is meant.

Masks alone teach it to fill boxes for thousands of steps before it reads a single point. Knows nothing of pictures.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.synthetic import COLOURS

FIRST, MASKS = 2, 3  # tokens: of the IoU, of the single mask, of the three masks, then those of the prompt


class Reading(nn.Module):
    """Heads on what the decoder's transformer returns, thrown away at the end.

    Args:
        decoder: a `SamMaskDecoder`, watched while it runs.
        width: of its tokens.
        patch: pixels along a patch's side.
    """

    def __init__(self, decoder: Any, width: int, patch: int) -> None:
        super().__init__()
        self.patch, kinds = patch, len(COLOURS) + 1
        self.point, self.mask, self.part = nn.Linear(width, kinds), nn.Linear(width, kinds), nn.Linear(width, patch**2)
        self._seen: tuple[Tensor, Tensor] | None = None
        decoder.transformer.register_forward_hook(lambda _module, _given, returned: self._watch(returned))

    def _watch(self, returned: Any) -> None:
        tokens, picture = returned[0], returned[1]
        self._seen = tokens.flatten(0, 1), picture.flatten(0, 1)

    def loss(
        self,
        points: Int64[Tensor, "scenes prompts points"] | None,
        meant: Int64[Tensor, "scenes prompts"],
        masks: Float[Tensor, "scenes prompts h w"],
    ) -> tuple[Tensor, dict[str, float]]:
        """For the decoder's last run, on certain prompts: cross-entropies of the colours, and of the masks x 5.

        Args:
            points: the colour at each point, counted from 1, 0 for the ground; None where there are no points.
            meant: the colour of the figure that each prompt means.
            masks: of those figures.

        Returns:
            The loss, and for the log how many points and masks' tokens have the right colour.
        """
        assert self._seen is not None  # the decoder has run
        tokens, picture = self._seen
        named = self.mask(tokens[:, FIRST : FIRST + MASKS]).mT
        due = meant.flatten()[:, None].expand(-1, MASKS)
        value = functional.cross_entropy(named, due)
        figures = {"meant": (named.argmax(1) == due).float().mean().item()}
        if points is not None:
            start = FIRST + MASKS
            said, there = self.point(tokens[:, start : start + points.shape[2]]).mT, points.flatten(0, 1)
            value = value + functional.cross_entropy(said, there)
            figures["points"] = (said.argmax(1) == there).float().mean().item()
        parts = functional.pixel_unshuffle(masks.flatten(0, 1)[:, None], self.patch).flatten(2).mT
        return value + 5 * functional.binary_cross_entropy_with_logits(self.part(picture), parts), figures
