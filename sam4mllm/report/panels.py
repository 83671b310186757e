"""Pictures as they stand in a page: small JPEGs, or why a picture cannot be shown. Knows nothing of HTML."""

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

SIDE = 480  # pixels of a panel's longer side; shown at about half of that, so it is sharp on any screen
QUALITY = 85  # of the JPEGs


def panel(picture: AnySize, word: str) -> Panel:
    """The picture, shrunk where it is large, with a word below it."""
    height, width, _ = picture.shape
    scale = min(SIDE / max(height, width), 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    packed = io.BytesIO()
    PIL.Image.fromarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)).save(
        packed, "JPEG", quality=QUALITY, subsampling=0
    )
    return Panel(packed.getvalue(), *size, word)


def picture_or_why(path: Path) -> Image | str:
    """The picture, or in words why it cannot be read."""
    try:
        return read_image(path)
    except UserError as error:
        return str(error)


def checked(image: Image, width: int, height: int) -> Image | str:
    """The picture where it is of the size that its sample says, or in words what is wrong."""
    if image.shape[:2] == (height, width):
        return image
    return f"the picture is {image.shape[1]} x {image.shape[0]} pixels, the sample says {width} x {height}"
