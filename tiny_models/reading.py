"""Auxiliary loss for the tiny SAM's decoder: point tokens predict the colour there, mask tokens the target's colour.

With the mask loss alone, the decoder fills boxes for thousands of steps before points have an effect.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sam4mllm.synthetic.figures import COLOURS

FIRST, MASKS = 2, 3  # order of tokens: IoU, single mask, three masks, prompt


class DecoderHeads(nn.Module):
    """Heads on the output of the decoder's transformer; they are not saved with the model.

    Args:
        decoder: a `SamMaskDecoder`; a hook records its output.
        width: length of its tokens.
        patch: side of a patch in pixels.
    """

    def __init__(self, decoder: Any, width: int, patch: int) -> None:
        super().__init__()
        self.patch, kinds = patch, len(COLOURS) + 1
        self.point, self.mask, self.part = nn.Linear(width, kinds), nn.Linear(width, kinds), nn.Linear(width, patch**2)
        self._seen: tuple[Tensor, Tensor] | None = None
        decoder.transformer.register_forward_hook(lambda _module, _inputs, returned: self._watch(returned))

    def _watch(self, returned: Any) -> None:
        tokens, image = returned[0], returned[1]
        self._seen = tokens.flatten(0, 1), image.flatten(0, 1)

    def loss(
        self,
        points: Int64[Tensor, "scenes prompts points"] | None,
        targets: Int64[Tensor, "scenes prompts"],
        masks: Float[Tensor, "scenes prompts h w"],
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropies of colours + 5 x masks for the decoder's last run, whose prompts must be unambiguous.

        Args:
            points: the colour at each point, starting at 1, 0 for the background; None without points.
            targets: the colour of each prompt's target.
            masks: the masks of the targets.

        Returns:
            The loss, and for the log the shares of point and mask tokens with the correct colour.
        """
        assert self._seen is not None  # the decoder has run
        tokens, image = self._seen
        named = self.mask(tokens[:, FIRST : FIRST + MASKS]).mT
        colours = targets.flatten()[:, None].expand(-1, MASKS)
        value = functional.cross_entropy(named, colours)
        figures = {"meant": (named.argmax(1) == colours).float().mean().item()}
        if points is not None:
            start = FIRST + MASKS
            colour_logits, at_points = self.point(tokens[:, start : start + points.shape[2]]).mT, points.flatten(0, 1)
            value = value + functional.cross_entropy(colour_logits, at_points)
            figures["points"] = (colour_logits.argmax(1) == at_points).float().mean().item()
        parts = functional.pixel_unshuffle(masks.flatten(0, 1)[:, None], self.patch).flatten(2).mT
        return value + 5 * functional.binary_cross_entropy_with_logits(self.part(image), parts), figures
