"""A segmenter that fills the box: the fake for tests, and the baseline that a real segmenter must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam4mllm.geometry.prompts import Box, Image, Mask, Prompt
from sam4mllm.geometry.sampling import pixels
from sam4mllm.segmenters import Capabilities, ScoredMask, check_supported


class BoxSegmenter:
    """Fills each box. It refuses points, because it would ignore them."""

    capabilities = Capabilities(points=False, negative_points=False)

    def embed(self, image: Image) -> BoxScene:
        """The image's size as a scene."""
        return BoxScene(*image.shape[:2])


class BoxScene:
    """A scene that holds only the size of the image."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """The pixels with their centres in each box, with score 1.

        Raises:
            UserError: if a prompt has points.
        """
        check_supported(BoxSegmenter.capabilities, prompts, "box")
        return [ScoredMask(fill(prompt.extent, self.height, self.width), 1.0) for prompt in prompts]


def fill(box: Box, height: int, width: int) -> Mask:
    """The pixels of a ``height`` x ``width`` image with their centres in a box; none if the box has no extent."""
    mask = np.zeros((height, width), dtype=bool)
    mask[pixels(box, height, width)] = True
    return mask
