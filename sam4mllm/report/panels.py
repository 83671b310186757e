"""Images for a page: small JPEGs, or the reason why an image cannot be shown."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import PIL.Image

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.images.files import read_image
from sam4mllm.images.overlay import AnySize
from sam4mllm.report.html import Panel

MAX_SIDE = 480  # pixels; pages show about half of that, so panels stay sharp on dense screens
_JPEG_QUALITY = 85


def make_panel(image: AnySize, caption: str) -> Panel:
    """The image as a JPEG, shrunk to at most `MAX_SIDE` pixels, with a caption."""
    height, width, _ = image.shape
    scale = min(MAX_SIDE / max(height, width), 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    buffer = io.BytesIO()
    small = PIL.Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return Panel(buffer.getvalue(), *size, caption)


def read_image_or_error(path: Path) -> Image | str:
    """The image, or the reason why it cannot be read."""
    try:
        return read_image(path)
    except UserError as error:
        return str(error)


def check_size(image: Image, width: int, height: int) -> Image | str:
    """The image if it has the sample's size in pixels, or the difference in words."""
    if image.shape[:2] == (height, width):
        return image
    return f"the image is {image.shape[1]} x {image.shape[0]} pixels, the sample expects {width} x {height}"
