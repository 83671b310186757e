"""How a model sees a picture, from the settings of its image processor alone.

Three traits matter. A processor that keeps a centre crop would hide the picture's ends, so it is set to squash, and
pictures are padded to a square before it. One that pads to a square itself is believed. All others squash, tile, or
resize the picture, and speak of fractions of it; a dialect in pixels speaks of the resized picture's.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from PIL import Image as PilImage

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Frame, Image
from sam4mllm.mllm import Images

log = logging.getLogger(__name__)


class Sight:
    """An image processor's way of looking.

    Args:
        image_processor: of transformers; where it would crop, its settings are changed, with a notice in the log.
        pixels: whether places are said in pixels of the resized picture.
    """

    def __init__(self, image_processor: Any, pixels: bool) -> None:
        self._processor, self._pixels = image_processor, pixels
        settings = image_processor.to_dict()
        tiles = bool(settings.get("image_grid_pinpoints"))  # such a one crops tiles out of a squashed whole
        self._crops = bool(settings.get("do_center_crop")) and not tiles
        self._pads = (
            not tiles and bool(settings.get("do_pad")) and callable(getattr(image_processor, "pad_to_square", 0))
        )
        self._padding = tuple(round(255 * mean) for mean in settings.get("image_mean") or (0, 0, 0))
        if self._crops:
            self._squash_to(settings["crop_size"])

    def _squash_to(self, size: dict[str, int]) -> None:
        log.warning(
            "The image processor crops the centre out of pictures; they are padded to a square of %d x %d instead.",
            size["width"],
            size["height"],
        )
        self._processor.size = {"height": size["height"], "width": size["width"]}

    def prepare(self, image: Image) -> PilImage.Image:
        """The picture to hand to the processor: as it is, or in the middle of a square of the mean colour."""
        if not self._crops:
            return PilImage.fromarray(image)  # an array of 1 x 1 or 3 x 3 pixels may be taken for channels first
        height, width = image.shape[:2]
        left, top = (int(offset) for offset in Frame.padded(width, height).offset)
        square = np.full((max(height, width), max(height, width), 3), self._padding, dtype=np.uint8)
        square[top : top + height, left : left + width] = image
        return PilImage.fromarray(square)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) of what `prepare` makes of a picture of this size."""
        return (max(width, height),) * 2 if self._crops else (width, height)

    def frames(self, images: Images) -> list[Frame]:
        """The frame of each picture, in pixels of the original."""
        return [self._frame(image) for image in images]

    def _frame(self, image: Image) -> Frame:
        height, width = image.shape[:2]
        frame = Frame.padded(width, height) if self._crops or self._pads else Frame.whole(width, height)
        if not self._pixels:
            return frame
        seen = self._resized(image)
        across, down = seen[0] / frame.canvas[0], seen[1] / frame.canvas[1]
        return Frame((width, height), seen, (across, down), (frame.offset[0] * across, frame.offset[1] * down))

    def _resized(self, image: Image) -> tuple[float, float]:
        """(width, height) of the picture that the model's encoder is given."""
        try:
            seen = self._processor(images=[self.prepare(image)], return_tensors="pt")
        except ValueError as error:  # some resize no picture that is a line
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"the model cannot take a picture of {size}: {' '.join(str(error).split())}") from error
        if "image_grid_thw" in seen:
            _, rows, columns = seen["image_grid_thw"][0].tolist()
            return columns * float(self._processor.patch_size), rows * float(self._processor.patch_size)
        height, width = seen["pixel_values"].shape[-2:]
        return float(width), float(height)
