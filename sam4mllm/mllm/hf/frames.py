"""How a model sees an image, from the settings of its image processor.

Three cases matter. A processor that crops the centre would cut off the ends of the image, so it is set to resize, and
images are first padded to a square. A processor that pads to a square itself is left as it is. All others stretch,
tile or resize the image, and places are fractions of the image. A dialect in pixels counts pixels of the resized image.
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


class ImagePreprocessor:
    """Prepares images for an image processor and computes their frames.

    Args:
        image_processor: of transformers. If it would crop, its settings are changed, with a warning in the log.
        pixels: whether the dialect writes places in pixels of the resized image.
    """

    def __init__(self, image_processor: Any, pixels: bool) -> None:
        self._processor, self._pixels = image_processor, pixels
        settings = image_processor.to_dict()
        tiles = bool(settings.get("image_grid_pinpoints"))  # a tiling processor crops tiles out of the stretched image
        self._crops = bool(settings.get("do_center_crop")) and not tiles
        self._pads = (
            not tiles and bool(settings.get("do_pad")) and callable(getattr(image_processor, "pad_to_square", 0))
        )
        self._padding = tuple(round(255 * mean) for mean in settings.get("image_mean") or (0, 0, 0))
        if self._crops:
            self._resize_to(settings["crop_size"])

    def _resize_to(self, size: dict[str, int]) -> None:
        log.warning(
            "The image processor crops the centre of images; they are padded to a square of %d x %d instead.",
            size["width"],
            size["height"],
        )
        self._processor.size = {"height": size["height"], "width": size["width"]}

    def prepare(self, image: Image) -> PilImage.Image:
        """The image for the processor: unchanged, or centred on a square of the mean colour."""
        if not self._crops:
            return PilImage.fromarray(
                image
            )  # in an array of 1 x 1 or 3 x 3 pixels, the first axis may be mistaken for the channels
        height, width = image.shape[:2]
        left, top = (int(offset) for offset in Frame.padded(width, height).offset)
        square = np.full((max(height, width), max(height, width), 3), self._padding, dtype=np.uint8)
        square[top : top + height, left : left + width] = image
        return PilImage.fromarray(square)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) of what `prepare` returns for an image of this size."""
        return (max(width, height),) * 2 if self._crops else (width, height)

    def frames(self, images: Images) -> list[Frame]:
        """The frame of each image, in pixels of the original."""
        return [self._frame(image) for image in images]

    def _frame(self, image: Image) -> Frame:
        height, width = image.shape[:2]
        frame = Frame.padded(width, height) if self._crops or self._pads else Frame.unscaled(width, height)
        if not self._pixels:
            return frame
        resized = self._resized(image)
        scale_x, scale_y = resized[0] / frame.canvas[0], resized[1] / frame.canvas[1]
        return Frame(
            (width, height), resized, (scale_x, scale_y), (frame.offset[0] * scale_x, frame.offset[1] * scale_y)
        )

    def _resized(self, image: Image) -> tuple[float, float]:
        """The (width, height) of the image at the input of the model's encoder."""
        try:
            inputs = self._processor(images=[self.prepare(image)], return_tensors="pt")
        except ValueError as error:  # some processors cannot resize very narrow images
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"the model cannot process an image of {size}: {' '.join(str(error).split())}") from error
        if "image_grid_thw" in inputs:
            _, rows, columns = inputs["image_grid_thw"][0].tolist()
            return columns * float(self._processor.patch_size), rows * float(self._processor.patch_size)
        height, width = inputs["pixel_values"].shape[-2:]
        return float(width), float(height)
