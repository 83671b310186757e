"""Picture files: read, whatever they hold, as upright 8-bit RGB, and written as PNG. Knows nothing of models.

Pictures are turned as their EXIF orientation says, so that "left" is what a person sees; coordinates everywhere refer
to the turned picture. Transparent parts show white, as on a page: the colours hidden under full transparency are
whatever a program left there. 16-bit greys are scaled, not clipped; several frames give the first.
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
"""A picture that claims more is refused before it is decoded: a small file can unpack to more than the memory holds."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as a picture in a folder; a file that is named itself is judged by its contents alone."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no format that runs another program (EPS, WMF)


def read_image(path: Path) -> Image:
    """The picture in a file, upright, as RGB.

    Raises:
        UserError: naming the file, where it is missing, a folder, not a picture of a known format, damaged or cut
            short, or of more than `MAX_PIXELS` pixels.
    """
    return _read(path, lambda picture: _rgb(PIL.ImageOps.exif_transpose(picture)))


def image_size(path: Path) -> tuple[int, int]:
    """The width and height of the picture in a file, upright, in pixels; of a photo (JPEG) only the header is read.

    Raises:
        UserError: as `read_image` does, but for damage to what was not read.
    """
    return _read(path, _upright_size)


def _read(path: Path, of_picture: Callable[[PIL.Image.Image], T]) -> T:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, on odd metadata: nothing that the user could mend
            return _opened(path, of_picture)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except PIL.UnidentifiedImageError:
        raise UserError(f"{path} is not a picture that can be read: give one of {', '.join(_FORMATS)}") from None
    except PIL.Image.DecompressionBombError:
        raise UserError(f"cannot read {path}: it claims far more than the {MAX_PIXELS:,} pixels allowed") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        raise UserError(f"cannot read {path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def as_image(picture: Path | str | NDArray[Any]) -> Image:
    """A picture for the models: a file is read, an array is passed through.

    Raises:
        UserError: for a file as in `read_image`, and for an array other than uint8 of shape (height, width, 3).
    """
    if isinstance(picture, (str, Path)):
        return read_image(Path(picture))
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise UserError(
            f"a picture is uint8 RGB of shape (height, width, 3), got {picture.dtype} of shape {picture.shape}"
        )
    return picture


def images_in(folder: Path) -> list[Path]:
    """The pictures that lie directly in a folder, by name; hidden files are passed over.

    Raises:
        UserError: where there are none, or the folder cannot be read.
    """
    try:
        names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    found = [path for path in names if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise UserError(f"no picture in {folder}: looked for {', '.join(SUFFIXES)}")
    return found


def write_png(path: Path, pixels: Image | Mask) -> None:
    """Write a picture as RGB, or a mask as grey 0 and 255: whole or not at all.

    Raises:
        UserError: where the file cannot be written.
    """
    packed = io.BytesIO()
    PIL.Image.fromarray(pixels if pixels.ndim == 3 else pixels.astype(np.uint8) * 255).save(packed, "PNG")
    write_bytes(path, packed.getvalue())


def _opened(path: Path, of_picture: Callable[[PIL.Image.Image], T]) -> T:
    with PIL.Image.open(path, formats=_FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"it claims {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
        return of_picture(picture)


def _upright_size(picture: PIL.Image.Image) -> tuple[int, int]:
    width, height = picture.size
    lies = picture.getexif().get(PIL.ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # turned by a quarter
    return (height, width) if lies else (width, height)


def _rgb(picture: PIL.Image.Image) -> Image:
    if picture.mode.startswith("I"):  # 16 bits; some formats give them in 32
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("it holds 32-bit pixels; give 8 or 16 bits")
        picture = PIL.Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("it holds floating-point pixels; give 8 or 16 bits")
    if picture.has_transparency_data:
        page = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(page, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))
