import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.errors import UserError
from sam4mllm.images.files import MAX_PIXELS, SUFFIXES, image_size, list_images, load_image, read_image, write_png

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CORNERS = np.array([[RED, GREEN, GREEN], [BLUE, WHITE, WHITE]], np.uint8)  # all rotations and reflections differ
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def save(path: Path, image: PIL.Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def encode(image: PIL.Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_with_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes with any size in its header."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".ppm", ".tif", ".webp"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    path = save(
        tmp_path / f"a{suffix}", PIL.Image.fromarray(PHOTO), **({"lossless": True} if suffix == ".webp" else {})
    )
    assert np.array_equal(read_image(path), PHOTO)


# EXIF orientation, and the stored array that it turns into CORNERS
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, CORNERS),
        (2, CORNERS[:, ::-1]),
        (3, CORNERS[::-1, ::-1]),
        (4, CORNERS[::-1]),
        (5, CORNERS.swapaxes(0, 1)),
        (6, np.rot90(CORNERS, 1)),
        (7, CORNERS[::-1, ::-1].swapaxes(0, 1)),
        (8, np.rot90(CORNERS, -1)),
    ],
)
def test_an_image_is_rotated_by_its_exif_orientation(tmp_path, orientation, stored):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", PIL.Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(path), CORNERS)
    assert image_size(path) == CORNERS.shape[1::-1]


def test_the_size_of_a_jpeg_needs_only_its_header(tmp_path):
    data = save(tmp_path / "a.jpg", PIL.Image.fromarray(PHOTO)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[:-20])
    assert image_size(tmp_path / "cut.jpg") == PHOTO.shape[1::-1]
    with pytest.raises(UserError, match="cannot read"):
        read_image(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes(data[:20])
    with pytest.raises(UserError, match=r"cut\.jpg"):
        image_size(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        pytest.param(PIL.Image.fromarray(PHOTO[..., 0]), PHOTO[..., [0, 0, 0]], id="8-bit grey"),
        pytest.param(PIL.Image.fromarray(CORNERS).quantize(4), CORNERS, id="a palette"),
        pytest.param(PIL.Image.new("1", (1, 1), 1), [[WHITE]], id="one bit, one pixel"),
    ],
)
def test_images_of_other_modes_are_converted_to_rgb(tmp_path, image, pixels):
    assert np.array_equal(read_image(save(tmp_path / "a.png", image)), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    deep = np.array([[0, 128, 257 * 7, 32768, 65407, 65535]], np.uint16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".pgm":
        path.write_bytes(b"P5 6 1 65535\n" + deep.astype(">u2").tobytes())
    else:
        save(path, PIL.Image.fromarray(deep))
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 7, 128, 255, 255]


def test_16_bit_colour_is_read(tmp_path):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 1 1 65535\n" + np.array([65535, 32896, 257], ">u2").tobytes())
    assert read_image(path)[0, 0].tolist() == [255, 128, 1]


def test_transparent_areas_become_white(tmp_path):
    clear = np.dstack([CORNERS, [[255, 255, 0], [0, 255, 255]]]).astype(np.uint8)
    expected = CORNERS.copy()
    expected[0, 2] = expected[1, 0] = WHITE
    rgba = PIL.Image.fromarray(clear)
    assert np.array_equal(read_image(save(tmp_path / "rgba.png", rgba)), expected)

    palette = PIL.Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([*RED, *BLUE])
    assert read_image(save(tmp_path / "p.png", palette, transparency=1)).tolist() == [[list(RED), list(WHITE)]]

    grey = PIL.Image.fromarray(np.array([[[9, 255], [9, 0], [0, 128]]], np.uint8), "LA")
    assert read_image(save(tmp_path / "la.png", grey))[0, :, 0].tolist() == [9, 255, 127]


def test_cmyk_is_converted_to_rgb(tmp_path):
    inks = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = read_image(save(tmp_path / "a.jpg", inks, quality=100))
    assert np.abs(red.astype(int) - RED).max() < 12


def test_an_animation_gives_its_first_frame(tmp_path):
    first, second = PIL.Image.new("RGB", (4, 4), RED), PIL.Image.new("RGB", (4, 4), BLUE)
    path = save(tmp_path / "a.gif", first, save_all=True, append_images=[second])
    assert read_image(path)[0, 0].tolist() == list(RED)


def test_the_format_is_recognised_by_content_and_not_by_suffix(tmp_path):
    path = save(tmp_path / "a.jpg", PIL.Image.fromarray(PHOTO), format="PNG")
    assert np.array_equal(read_image(path), PHOTO)


# content of the file, part of the message
BAD = [
    pytest.param(None, "no such file", id="missing"),
    pytest.param(b"", "not an image", id="empty"),
    pytest.param(b"just words, more than sixteen bytes", "not an image", id="text"),
    pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image", id="postscript"),
    pytest.param(png_with_size(20_000, 20_000), "pixels", id="20000 x 20000"),
    pytest.param(png_with_size(10_001, 10_000), "10001 x 10000 pixels", id="just above the limit"),
    pytest.param(encode(PIL.Image.new("F", (2, 2)), "TIFF"), "floating-point", id="floats"),
    pytest.param(encode(PIL.Image.new("I", (2, 2), 70000), "TIFF"), "32-bit", id="32 bits"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_an_unreadable_file_is_a_one_line_error_with_its_path(tmp_path, data, message):
    path = tmp_path / "a.jpg"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=message) as refusal:
        read_image(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)


KINDS = [(kind, {}) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")]
KINDS += [("JPEG", {"progressive": True}), ("TIFF", {"compression": "tiff_lzw"})]


def read_or_none(path: Path):
    """The image, or None if it is refused with a one-line error."""
    try:
        return read_image(path)
    except UserError as refusal:
        if "\n" in str(refusal):
            raise
        return None


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_truncated_image_is_refused_unless_all_pixels_are_present(tmp_path, kind, options):
    data = encode(PIL.Image.fromarray(PHOTO), kind, **options)
    path = tmp_path / "a"
    path.write_bytes(data)
    complete = read_image(path)
    refused = 0
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        path.write_bytes(data[:length])
        read = read_or_none(path)
        assert read is None or np.array_equal(read, complete)
        refused += read is None
    assert refused >= 38


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_damaged_image_is_read_or_refused(tmp_path, kind, options):
    rng = np.random.default_rng(1)
    data = encode(PIL.Image.fromarray(PHOTO), kind, **options)
    for _ in range(40):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, min(len(damaged), 400), 8)] = rng.integers(0, 256, 8)
        (tmp_path / "a").write_bytes(damaged.tobytes())
        read = read_or_none(tmp_path / "a")
        assert read is None or read.dtype == np.uint8


def test_the_pixel_limit_applies_to_the_header(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_with_size(MAX_PIXELS // 10_000, 10_000))  # at the limit: it is decoded and fails as truncated
    with pytest.raises(UserError, match="cannot read") as refusal:
        read_image(path)
    assert "allowed" not in str(refusal.value)


def test_a_valid_array_is_returned_unchanged():
    assert load_image(PHOTO) is PHOTO


@pytest.mark.parametrize(
    "array",
    [PHOTO.astype(float), PHOTO[..., 0], np.dstack([PHOTO, PHOTO]), PHOTO[:0]],
    ids=["floats", "grey", "six channels", "no rows"],
)
def test_an_array_of_another_dtype_or_shape_is_refused(array):
    with pytest.raises(UserError, match="uint8 RGB"):
        load_image(array)


def test_the_images_in_a_folder_are_sorted_by_name(tmp_path):
    for name in ["b.JPG", "a.png", "c.txt", ".hidden.png", "d.webp"]:
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG", "d.webp"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images in"):
        list_images(tmp_path)
    with pytest.raises(UserError, match="cannot read the folder"):
        list_images(tmp_path / "missing")


def test_every_listed_suffix_is_supported_by_pillow():
    assert set(SUFFIXES) <= set(PIL.Image.registered_extensions())


def test_a_mask_is_written_as_black_and_white(tmp_path):
    mask = np.array([[True, False], [False, False]])
    write_png(tmp_path / "out" / "mask.png", mask)
    with PIL.Image.open(tmp_path / "out" / "mask.png") as image:
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[255, 0], [0, 0]]


def test_a_written_image_is_read_back(tmp_path):
    write_png(tmp_path / "a.png", PHOTO)
    assert np.array_equal(read_image(tmp_path / "a.png"), PHOTO)
