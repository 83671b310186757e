"""The segmenter that fills the box: the fake that tests use, and the floor that a real segmenter must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam4mllm.geometry.prompts import Box, Image, Mask, Prompt
from sam4mllm.geometry.sampling import pixels
from sam4mllm.segmenters import ScoredMask, Takes, refuse_beyond


class BoxSegmenter:
    """Fills each box. It has no use for points and refuses them, as nothing given is to be ignored."""

    takes = Takes(points=False, negative_points=False)

    def embed(self, image: Image) -> BoxScene:
        """Remembers the picture's size."""
        return BoxScene(*image.shape[:2])


class BoxScene:
    """A picture of which only the size is known."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """The pixels whose centres lie in each box; sure of them, so the score is 1.

        Raises:
            UserError: for a prompt with points.
        """
        refuse_beyond(BoxSegmenter.takes, prompts, "box")
        return [ScoredMask(fill(prompt.box, self.height, self.width), 1.0) for prompt in prompts]


def fill(box: Box, height: int, width: int) -> Mask:
    """The pixels of a picture of ``height`` x ``width`` whose centres lie in a box; none for a box without extent."""
    mask = np.zeros((height, width), dtype=bool)
    mask[pixels(box, height, width)] = True
    return mask
