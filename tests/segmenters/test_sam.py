import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.build_sam import _build_sam

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt, iou
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.segmenters.box import fill
from sam4mllm.segmenters.sam import SamSegmenter
from tests.segmenters.small import enlarge, slopes

HEIGHT, WIDTH = 48, 80
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PROMPTS = [
    Prompt(Box(5.0, 6.5, 40.0, 40.0)),
    Prompt(Box(10.0, 10.0, 70.0, 44.0), (Point(30.5, 30.25), Point(61.5, 12.5, positive=False))),
    Prompt(Box(0.0, 0.0, 80.0, 48.0)),
]
WITHOUT_BOX = Prompt(None, (Point(30.5, 20.25), Point(12.5, 40.5), Point(61.5, 12.5, positive=False)))
small_sam = partial(_build_sam, 32, 2, 4, [1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small model of the original class, saved like its checkpoints."""
    torch.manual_seed(0)
    sam = small_sam()
    enlarge(sam)
    path = tmp_path_factory.mktemp("sam") / "small.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_model_registry, "vit_b", small_sam)
        return SamSegmenter.load(checkpoint, "vit_b", device="cpu")


@pytest.fixture(scope="module")
def scene(segmenter):
    return segmenter.embed(IMAGE)


@pytest.fixture(scope="module")
def predictor(segmenter):
    predictor = SamPredictor(segmenter.model)
    predictor.set_image(IMAGE)
    return predictor


def test_the_segmenter_satisfies_the_protocol(segmenter, scene):
    assert isinstance(segmenter, Segmenter)
    assert isinstance(scene, Scene)


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_equal_those_of_the_original_predictor(segmenter, scene, predictor, multimask, monkeypatch):
    monkeypatch.setattr(segmenter, "multimask", multimask)
    back = 0.5 / (1024 / WIDTH)  # the predictor expects pixel indices, which are half an input pixel smaller
    prompts = [*PROMPTS, WITHOUT_BOX]
    for prompt, scored in zip(prompts, scene.segment(prompts), strict=True):
        masks, scores, _ = predictor.predict(
            point_coords=np.array([(p.x - back, p.y - back) for p in prompt.points]) if prompt.points else None,
            point_labels=np.array([int(p.positive) for p in prompt.points]) if prompt.points else None,
            box=np.array(prompt.box.xyxy) - back if prompt.box else None,
            multimask_output=multimask,
        )
        assert iou(scored.mask, masks[scores.argmax()]) > 0.999
        assert scored.score == pytest.approx(float(scores.max().clip(0, 1)), abs=1e-4)


def test_random_masks_are_not_flat(scene):
    masks = [scored.mask for scored in scene.segment(PROMPTS)]
    assert all(mask.any() and not mask.all() for mask in masks)
    assert iou(masks[0], masks[1]) < 0.9


def test_batched_prompts_equal_single_prompts_and_the_image_is_encoded_once(segmenter):
    runs = []
    hook = segmenter.model.image_encoder.register_forward_hook(lambda *_: runs.append(1))
    logits = []
    watch = segmenter.model.mask_decoder.register_forward_hook(lambda module, args, out: logits.append(out[0]))
    scene = segmenter.embed(IMAGE)
    together = scene.segment(PROMPTS)
    single_masks = [scene.segment([prompt])[0] for prompt in PROMPTS]
    hook.remove()
    watch.remove()
    assert len(runs) == 1
    assert [len(result) for result in logits] == [2, 1, 1, 1, 1]
    batched, single = torch.cat(logits[:2]), torch.cat([logits[2], logits[4], logits[3]])
    torch.testing.assert_close(batched, single, atol=1e-4, rtol=1e-4)
    assert all(iou(batched.mask, other.mask) > 0.999 for batched, other in zip(together, single_masks, strict=True))


def test_a_place_gets_the_position_encoding_of_its_image_cell(segmenter, monkeypatch):
    """With one pixel per cell of the embedding, the centre of a pixel must be encoded like its cell."""
    monkeypatch.setitem(segmenter.model._modules, "image_encoder", Unseen())
    layer, coded = segmenter.model.prompt_encoder.pe_layer, []
    encode = layer.forward_with_coords
    monkeypatch.setattr(layer, "forward_with_coords", lambda *args: coded.append(encode(*args)) or coded[-1].clone())
    scene = segmenter.embed(np.zeros((64, 64, 3), dtype=np.uint8))
    scene.segment([Prompt(Box(4.5, 1.5, 60.5, 7.5), (Point(0.5, 0.5), Point(63.5, 9.5, positive=False)))])
    cells = segmenter.model.prompt_encoder.get_dense_pe()[0]
    for result, (x, y) in zip(torch.cat(coded, dim=1)[0], [(0, 0), (63, 9), (4, 1), (60, 7)], strict=True):
        torch.testing.assert_close(result, cells[:, y, x], atol=1e-4, rtol=0)


class Unseen(torch.nn.Module):
    """A fast encoder that returns the same embedding for every image."""

    img_size = 1024

    def forward(self, pixels):
        return torch.zeros(1, 256, 64, 64)


@pytest.mark.parametrize("size", [(48, 80), (80, 48), (200, 50)])
def test_a_model_that_fills_its_box_returns_the_box(segmenter, monkeypatch, size):
    height, width = size
    monkeypatch.setitem(segmenter.model._modules, "image_encoder", Unseen())
    monkeypatch.setattr(segmenter.model.prompt_encoder, "forward", lambda points, boxes, masks: (boxes, boxes))

    def decode(sparse_prompt_embeddings, **others):
        centres = (torch.arange(256) + 0.5) / 256
        x0, y0, x1, y1 = ((sparse_prompt_embeddings + 0.5) / 1024).T[..., None]
        down, across = torch.minimum(centres - y0, y1 - centres), torch.minimum(centres - x0, x1 - centres)
        inside = torch.minimum(down[:, :, None], across[:, None])
        wrong = torch.ones_like(inside)
        return torch.stack([wrong, inside, wrong], dim=1), torch.tensor([[0.2, 1.7, 0.5]])

    monkeypatch.setattr(segmenter.model.mask_decoder, "forward", decode)
    box = Box(0.125 * width, 0.25 * height, 0.75 * width, 0.5 * height)
    [result] = segmenter.embed(np.zeros((height, width, 3), dtype=np.uint8)).segment([Prompt(box)])
    assert iou(result.mask, fill(box, height, width)) > 0.97
    assert result.score == 1.0  # a predicted IoU above 1 is clipped


def test_estimates_of_drafts_are_close_to_the_ious_at_full_size(scene, monkeypatch):
    monkeypatch.setattr("sam4mllm.segmenters.sam.pick_best", slopes)
    mask, rows = fill(Box(16.0, 14.0, 56.0, 43.0), HEIGHT, WIDTH), range(11)
    drafts = scene.draft([PROMPTS[0] for _ in rows])
    exact = [iou(scored.mask, mask) for scored in drafts.masks(rows)]
    assert np.ptp(exact) > 0.1
    assert drafts.approximate_ious(rows, mask) == pytest.approx(exact, abs=0.02)


def test_no_prompts_give_no_masks(scene):
    assert scene.segment([]) == []


def test_an_image_of_one_pixel_is_segmented(segmenter, monkeypatch):
    monkeypatch.setitem(segmenter.model._modules, "image_encoder", Unseen())
    [result] = segmenter.embed(np.zeros((1, 1, 3), dtype=np.uint8)).segment([Prompt(Box(0, 0, 1, 1))])
    assert result.mask.shape == (1, 1)


def test_an_image_that_is_too_narrow_is_refused(segmenter):
    with pytest.raises(UserError, match="3000 x 1"):
        segmenter.embed(np.zeros((1, 3000, 3), dtype=np.uint8))


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a text file that calls itself a checkpoint", id="text"),
        pytest.param(pickle.dumps(Harmful()), id="code"),
        pytest.param(pickle.dumps({"a": 1}), id="no tensors"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_refused_and_not_executed(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pth is not a checkpoint"):
        SamSegmenter.load("bad.pth", "vit_b")
    assert not Path("harmed").exists()


def test_another_models_weights_are_refused(checkpoint, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_b", partial(_build_sam, 48, 2, 4, [1]))
    with pytest.raises(UserError, match="does not hold the weights of a vit_b"):
        SamSegmenter.load(checkpoint, "vit_b")


@pytest.mark.parametrize(
    ("path", "model", "message"),
    [
        pytest.param("missing.pth", "vit_h", "no checkpoint at missing.pth", id="missing file"),
        pytest.param("missing.pth", "vit_x", "vit_x.*choose from vit_b, vit_l, vit_h", id="unknown model"),
    ],
)
def test_a_wrong_path_or_model_is_refused(path, model, message):
    with pytest.raises(UserError, match=message):
        SamSegmenter.load(path, model)
