"""A bright mark on an image appears where its frame predicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers as tf

from sam4mllm.geometry.prompts import Frame
from sam4mllm.mllm.hf.frames import ImagePreprocessor
from sam4mllm.mllm.hf.model import HfMLLM

SIDE = 224
SQUARE = {"height": SIDE, "width": SIDE}
CROP = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64}

PROCESSORS = {
    "centre crop": lambda: tf.CLIPImageProcessor(**CROP),
    "centre crop, cannot pad": lambda: tf.CLIPImageProcessor(size={"shortest_edge": 256}, crop_size=SQUARE),
    "centre crop, could pad": lambda: tf.LlavaImageProcessor(**CROP),
    "pads": lambda: tf.LlavaImageProcessor(do_pad=True, do_center_crop=False, size=SQUARE),
    "pads and crops": lambda: tf.LlavaImageProcessor(do_pad=True, **CROP),
    "squashes": lambda: tf.SiglipImageProcessor(size=SQUARE),
    "squashes, may scan": lambda: tf.Gemma3ImageProcessor(size=SQUARE),
    "tiles, base view": lambda: tf.LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **CROP),
    "tiles, no crop": lambda: tf.LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS, size=SQUARE),
    "tiles by aspect": lambda: tf.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=False),
}
SIZES = [(300, 120), (90, 200), (150, 150), (101, 100)]


def centre_of_mark(view: torch.Tensor) -> tuple[float, float]:
    """The position of the brightest spot of a (3, h, w) view, as fractions of its width and height."""
    weight = (view.mean(dim=0) - view.mean(dim=0).min()).clamp(min=0).numpy()
    weight = np.where(weight > 0.5 * weight.max(), weight, 0)
    y, x = (np.arange(n) + 0.5 for n in weight.shape)
    return float((weight.sum(0) * x).sum() / weight.sum() / len(x)), float(
        (weight.sum(1) * y).sum() / weight.sum() / len(y)
    )


def marked(width: int, height: int) -> tuple[np.ndarray, float, float]:
    """A black image with a white square near its upper left corner, and that square's centre."""
    image = np.zeros((height, width, 3), np.uint8)
    x, y, half = round(0.15 * width), round(0.2 * height), 8
    image[y - half : y + half, x - half : x + half] = 255
    return image, float(x), float(y)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("pixels", [False, True], ids=["fractions", "pixels"])
def test_the_mark_is_where_the_frame_says(pixels: bool, name: str, size: tuple[int, int]) -> None:
    image, x, y = marked(*size)
    processor = PROCESSORS[name]()
    sight = ImagePreprocessor(processor, pixels=pixels)
    values = processor(images=[sight.prepare(image)], return_tensors="pt")["pixel_values"]
    position = centre_of_mark(values.reshape(-1, 3, *values.shape[-2:])[0])
    frame = sight.frames([image])[0]
    expected = frame.to_model(x, y)
    assert not pixels or frame.canvas == (values.shape[-1], values.shape[-2])
    step = 1.5 / min(values.shape[-2:])
    assert position == pytest.approx((expected[0] / frame.canvas[0], expected[1] / frame.canvas[1]), abs=step)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("patch", [14, 16])
def test_pixels_are_those_of_the_resized_image(patch: int, size: tuple[int, int]) -> None:
    image, x, y = marked(*size)
    processor = tf.Qwen2VLImageProcessor(patch_size=patch, size=PIXELS)
    frame = ImagePreprocessor(processor, pixels=True).frames([image])[0]
    seen = processor(images=[image], return_tensors="pt")
    _, rows, columns = seen["image_grid_thw"][0].tolist()
    # patches come in blocks of 2 x 2, each as (channel, time, y, x)
    blocks = seen["pixel_values"].reshape(rows // 2, columns // 2, 2, 2, 3, 2, patch, patch)
    view = blocks.permute(4, 5, 0, 2, 6, 1, 3, 7).reshape(3, 2, rows * patch, columns * patch)[:, 0]
    found = centre_of_mark(view)
    assert frame.canvas == (columns * patch, rows * patch)
    assert (found[0] * frame.canvas[0], found[1] * frame.canvas[1]) == pytest.approx(frame.to_model(x, y), abs=1.5)
    assert ImagePreprocessor(processor, pixels=False).frames([image]) == [Frame.unscaled(*size)]


def test_pixels_of_a_squashed_image_are_those_of_its_encoder() -> None:
    image, _, _ = marked(300, 120)
    sight = ImagePreprocessor(tf.SiglipImageProcessor(size={"height": 56, "width": 84}), pixels=True)
    assert sight.frames([image]) == [Frame.resized(300, 120, (84, 56))]


def test_a_crop_that_would_hide_part_of_the_image_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ImagePreprocessor(tf.SiglipImageProcessor(), pixels=False)
    ImagePreprocessor(tf.LlavaNextImageProcessor(), pixels=False)
    assert caplog.messages == []
    ImagePreprocessor(tf.CLIPImageProcessor(**CROP), pixels=False)
    assert caplog.messages == [
        "The image processor crops the centre of images; they are padded to a square of 224 x 224 instead."
    ]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (3, 1), (1, 40), (200, 2)], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "llava_next", "internvl", "idefics3", "molmo2"])
def test_very_small_images_work(family: str, size: tuple[int, int], talker: Callable[[str], HfMLLM]) -> None:
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    assert len(talker(family).open([image]).answer(["Where?"])) == 1
