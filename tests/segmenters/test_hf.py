from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt, iou
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.segmenters.box import fill
from sam4mllm.segmenters.hf import HfSegmenter
from tests.segmenters.small import CELLS, CLASSES, build

HEIGHT, WIDTH = 48, 80
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PROMPTS = [
    Prompt(Box(5.0, 6.5, 40.0, 40.0)),
    Prompt(Box(40.0, 0.0, 80.0, 30.0), (Point(60.5, 10.5),)),
    Prompt(Box(10.0, 10.0, 70.0, 44.0), (Point(30.5, 30.25), Point(61.5, 12.5, positive=False))),
    Prompt(Box(0.0, 0.0, 80.0, 48.0)),
    Prompt(Box(50.0, 2.0, 78.0, 46.0), (Point(60.5, 10.5, positive=False),)),
]


@pytest.fixture(scope="module", params=CLASSES)
def folder(request, tmp_path_factory):
    return build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def segmenter(folder):
    return HfSegmenter.load(folder, device="cpu")


@pytest.fixture
def calls(segmenter):
    """The inputs and outputs of every call of the model."""
    calls = []
    hook = segmenter.model.register_forward_hook(
        lambda module, args, kwargs, out: calls.append((kwargs, out)), with_kwargs=True
    )
    yield calls
    hook.remove()


def scale_of(segmenter, image=IMAGE):
    """Pixels of the model's input per pixel of the image, from a box of ten pixels through the processor."""
    boxes = segmenter.processor(images=image, input_boxes=[[[0.0, 0.0, 10.0, 10.0]]], return_tensors="pt")
    return boxes["input_boxes"][0, 0, 2:].numpy() / 10


def as_processed(segmenter, prompt):
    """A prompt through the class's own processor, as the pixel indices that the model expects."""
    back = 0.5 / scale_of(segmenter)
    model_inputs = {}
    if prompt.box:
        model_inputs["input_boxes"] = [[(np.array(prompt.box.xyxy) - np.tile(back, 2)).tolist()]]
    if prompt.points:
        model_inputs["input_points"] = [
            [[[point.x - float(back[0]), point.y - float(back[1])] for point in prompt.points]]
        ]
        model_inputs["input_labels"] = [[[int(point.positive) for point in prompt.points]]]
    return segmenter.processor(images=IMAGE, return_tensors="pt", **model_inputs)


def test_the_segmenter_satisfies_the_protocol(segmenter):
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter.embed(IMAGE), Scene)


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_equal_those_of_the_documented_usage_of_the_class(segmenter, multimask):
    without_box = Prompt(None, (Point(30.5, 20.25), Point(12.5, 40.5), Point(61.5, 12.5, positive=False)))
    prompts = [*PROMPTS, without_box]
    results = HfSegmenter(segmenter.model, segmenter.processor, multimask).embed(IMAGE).segment(prompts)
    for prompt, scored in zip(prompts, results, strict=True):
        inputs = as_processed(segmenter, prompt)
        with torch.no_grad():
            model_inputs = {key: inputs[key] for key in inputs if key.startswith(("input", "pixel"))}
            out = segmenter.model(**model_inputs, multimask_output=multimask)
        sizes = {key: inputs[key] for key in inputs if key.endswith("sizes")}
        masks = segmenter.processor.post_process_masks(out.pred_masks, **sizes)[0][0]
        best = int(out.iou_scores[0, 0].argmax())
        assert masks.shape == (3 if multimask else 1, HEIGHT, WIDTH)
        assert iou(scored.mask, masks[best].numpy()) > 0.999
        assert scored.score == pytest.approx(float(out.iou_scores[0, 0, best].clamp(0, 1)), abs=1e-4)


def test_random_masks_are_not_flat_and_follow_the_prompt(segmenter):
    masks = [scored.mask for scored in segmenter.embed(IMAGE).segment(PROMPTS)]
    assert all(mask.any() and not mask.all() for mask in masks[:3])
    assert iou(masks[0], masks[1]) < 0.98  # far below the equality threshold of the other tests


def test_the_model_gets_the_prompt_as_its_processor_converts_it(segmenter, calls):
    segmenter.embed(IMAGE).segment([PROMPTS[2]])
    [(model_inputs, _)] = calls
    expected = as_processed(segmenter, PROMPTS[2])
    for key in ("input_boxes", "input_points", "input_labels"):
        assert model_inputs[key].shape == expected[key].shape
        torch.testing.assert_close(model_inputs[key].double(), expected[key].double(), atol=1e-4, rtol=0)


def test_the_picture_is_encoded_once_as_the_processor_prepares_it(segmenter):
    seen = []
    hook = segmenter.model.vision_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("pixel_values", *args)), with_kwargs=True
    )
    scene = segmenter.embed(IMAGE)
    scene.segment(PROMPTS)
    scene.segment(PROMPTS)
    hook.remove()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], segmenter.processor(images=IMAGE, return_tensors="pt")["pixel_values"])


def test_batched_prompts_equal_single_prompts(segmenter, calls):
    scene = segmenter.embed(IMAGE)
    batched_masks = scene.segment(PROMPTS)
    batched = torch.cat([out.pred_masks[0] for _, out in calls])
    calls.clear()
    single_masks = [scene.segment([prompt])[0] for prompt in PROMPTS]
    order = sorted(range(len(PROMPTS)), key=lambda row: len(PROMPTS[row].points))
    single = torch.cat([calls[row][1].pred_masks[0] for row in order])
    torch.testing.assert_close(batched, single, atol=1e-4, rtol=1e-4)
    for batched, other in zip(batched_masks, single_masks, strict=True):
        assert iou(batched.mask, other.mask) > 0.999
        assert batched.score == pytest.approx(other.score, abs=1e-4)


def test_there_is_one_call_for_each_number_of_points(segmenter, calls):
    segmenter.embed(IMAGE).segment(PROMPTS)
    assert [model_inputs["input_boxes"].shape[1] for model_inputs, _ in calls] == [2, 2, 1]


def test_a_large_group_is_split_at_the_bound(segmenter, calls):
    results = HfSegmenter(segmenter.model, segmenter.processor, max_prompts=2).embed(IMAGE).segment([PROMPTS[0]] * 5)
    assert [model_inputs["input_boxes"].shape[1] for model_inputs, _ in calls] == [2, 2, 1]
    assert all(iou(scored.mask, results[0].mask) > 0.999 for scored in results)


def test_a_place_gets_the_position_encoding_of_its_image_cell(segmenter):
    """With one pixel per cell of the embedding, the centre of a pixel must be encoded like its cell."""
    coded = []
    embedding = segmenter.model.prompt_encoder.shared_embedding
    scene = segmenter.embed(np.zeros((CELLS, CELLS, 3), dtype=np.uint8))
    hook = embedding.register_forward_hook(lambda module, args, out: coded.append(out[0].clone()))
    points = (Point(0.5, 0.5), Point(3.5, 9.5), Point(15.5, 2.5, positive=False))
    scene.segment([Prompt(Box(4.5, 1.5, 14.5, 7.5), points)])
    hook.remove()
    cells = segmenter.model.get_image_wide_positional_embeddings()[0]
    coded_points, coded_corners = (encoding[0] for encoding in coded if encoding.shape[:1] == (1,))
    for encoding, (x, y) in zip(coded_points, [(0, 0), (3, 9), (15, 2)], strict=True):
        torch.testing.assert_close(encoding, cells[:, y, x], atol=1e-4, rtol=0)
    for encoding, (x, y) in zip(coded_corners, [(4, 1), (14, 7)], strict=False):
        torch.testing.assert_close(encoding, cells[:, y, x], atol=1e-4, rtol=0)


def filling(side):
    """A model that fills its input box in its own frame and scores the second mask highest."""

    def forward(input_boxes, **others):
        centres = (torch.arange(4 * CELLS) + 0.5) / (4 * CELLS)
        x0, y0, x1, y1 = ((input_boxes[0] + 0.5) / side).T[..., None]
        inside = torch.minimum(
            torch.minimum(centres - y0, y1 - centres)[:, :, None], torch.minimum(centres - x0, x1 - centres)[:, None]
        )
        wrong = torch.ones_like(inside)
        scores = torch.tensor([0.2, 0.9, 0.5]).expand(1, len(inside), 3)
        return SimpleNamespace(pred_masks=torch.stack([wrong, inside, wrong], dim=1)[None], iou_scores=scores)

    return forward


@pytest.mark.parametrize("size", [(48, 80), (80, 48), (200, 50), (64, 64)])
def test_a_model_that_fills_its_box_returns_the_box(segmenter, monkeypatch, size):
    height, width = size
    side = segmenter.model.config.prompt_encoder_config.image_size
    monkeypatch.setattr(segmenter.model, "forward", filling(side))
    box = Box(0.125 * width, 0.25 * height, 0.75 * width, 0.5 * height)
    [result] = segmenter.embed(np.zeros((height, width, 3), dtype=np.uint8)).segment([Prompt(box)])
    assert iou(result.mask, fill(box, height, width)) > 0.93
    assert result.score == pytest.approx(0.9)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (1, 60), (3, 3)])
def test_a_tiny_or_narrow_image_is_segmented(segmenter, size):
    [result] = segmenter.embed(np.zeros((*size, 3), dtype=np.uint8)).segment(
        [Prompt(Box(0, 0, 1, 1), (Point(0.5, 0.5),))]
    )
    assert result.mask.shape == size


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_a_line_is_segmented_or_refused(segmenter, size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    if (
        "reshaped_input_sizes" in segmenter.processor.model_input_names
    ):  # it keeps proportions, so one side would vanish
        with pytest.raises(UserError, match=f"{size[1]} x {size[0]} pixels"):
            segmenter.embed(image)
    else:
        assert segmenter.embed(image).segment([Prompt(Box(0, 0, 1, 1))])[0].mask.shape == size


def test_no_prompts_give_no_masks(segmenter):
    assert segmenter.embed(IMAGE).segment([]) == []


def test_half_precision_works(folder):
    results = HfSegmenter.load(folder, device="cpu", dtype="bfloat16").embed(IMAGE).segment(PROMPTS)
    assert [scored.mask.shape for scored in results] == [(HEIGHT, WIDTH)] * len(PROMPTS)
    assert all(0 <= scored.score <= 1 for scored in results)


def test_a_checkpoint_that_lacks_weights_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(key for key in sorted(weights) if "mask_decoder" in key)
    save_file({key: value for key, value in weights.items() if key != lost}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="lacks weights, such as mask_decoder"):
        HfSegmenter.load(tmp_path)


def test_a_model_that_takes_no_points_is_refused_with_the_choices(tmp_path):
    tf.Sam3Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"sam3, which does not take boxes and points; choose from .*sam2"):
        HfSegmenter.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"dtype": "float31"}, "float31", id="dtype"),
        pytest.param({"device": "abacus"}, "abacus", id="device"),
    ],
)
def test_an_unknown_option_is_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        HfSegmenter.load(build("sam", tmp_path), **options)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"segmenter .* not found"):
        HfSegmenter.load(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    build("sam", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the segmenter"):
        HfSegmenter.load(tmp_path)


def test_a_folder_without_a_processor_is_refused(tmp_path):
    build("sam", tmp_path)
    for file in tmp_path.glob("*processor*"):
        file.unlink()
    with pytest.raises(UserError, match="cannot load the segmenter"):
        HfSegmenter.load(tmp_path)


def test_damaged_weights_are_refused(tmp_path):
    build("sam", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(UserError, match="cannot load the segmenter"):
        HfSegmenter.load(tmp_path)
