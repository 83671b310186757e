"""Reads image files as upright 8-bit RGB, and writes PNG.

Images are rotated by their EXIF orientation, so that "left" is what a person sees; all coordinates refer to the rotated
image. Transparent areas become white, because the colours stored under full transparency are arbitrary. 16-bit grey is
scaled, not clipped. Of several frames the first is read.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Mask
from sam4mllm.runtime.files import write_bytes

T = TypeVar("T")
MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can decompress to more than the memory holds."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File name suffixes of images in a folder. A file given by name is recognised by its content instead."""

# EPS and WMF are left out: their decoders run other programs
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def read_image(path: Path) -> Image:
    """The image in a file, upright, as RGB.

    Raises:
        UserError: if the file is missing, a folder, not in a supported format, damaged or truncated, or has more than
            `MAX_PIXELS` pixels.
    """
    return _read(path, lambda image: _rgb(PIL.ImageOps.exif_transpose(image)))


def image_size(path: Path) -> tuple[int, int]:
    """The width and height of the upright image in a file, in pixels. Of a JPEG file only the header is read.

    Raises:
        UserError: in the cases of `read_image`, except for damage in parts of the file that are not read.
    """
    return _read(path, _upright_size)


def _read(path: Path, convert: Callable[[PIL.Image.Image], T]) -> T:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which users cannot fix
            return _open(path, convert)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except PIL.UnidentifiedImageError:
        raise UserError(f"{path} is not an image in a supported format: use one of {', '.join(_FORMATS)}") from None
    except PIL.Image.DecompressionBombError:
        raise UserError(f"cannot read {path}: it has far more than the {MAX_PIXELS:,} pixels allowed") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # Pillow's decoders raise many types of errors on damaged files
        raise UserError(f"cannot read {path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def load_image(image: Path | str | NDArray[Any]) -> Image:
    """The image in a file, or an array unchanged after a check of its dtype and shape.

    Raises:
        UserError: in the cases of `read_image`, or if an array is not uint8 of shape (height, width, 3).
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"an image must be uint8 RGB of shape (height, width, 3), got {image.dtype} {image.shape}")
    return image


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; hidden files are skipped.

    Raises:
        UserError: if the folder has no images or cannot be read.
    """
    try:
        names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    images = [path for path in names if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not images:
        raise UserError(f"no images in {folder}: looked for files named {', '.join(SUFFIXES)}")
    return images


def write_png(path: Path, pixels: Image | Mask) -> None:
    """Write an image as RGB, or a mask as grey values 0 and 255. The write is atomic.

    Raises:
        UserError: if the file cannot be written.
    """
    packed = io.BytesIO()
    PIL.Image.fromarray(pixels if pixels.ndim == 3 else pixels.astype(np.uint8) * 255).save(packed, "PNG")
    write_bytes(path, packed.getvalue())


def _open(path: Path, convert: Callable[[PIL.Image.Image], T]) -> T:
    with PIL.Image.open(path, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"it has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
        return convert(image)


def _upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    width, height = image.size
    swapped = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # rotated by 90 or 270 degrees
    return (height, width) if swapped else (width, height)


def _rgb(image: PIL.Image.Image) -> Image:
    if image.mode.startswith("I"):  # 16 bits; Pillow represents some formats in 32 bits
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("it has 32-bit pixels: convert it to 8 or 16 bits")
        image = PIL.Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("it has floating-point pixels: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        background = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(background, image.convert("RGBA"))
    return np.array(image.convert("RGB"))
