"""Drafts against what the same scene draws at full size, on every class and on odd pictures."""

import numpy as np
import pytest
import torch

from sam4mllm.geometry.prompts import Box, Prompt, iou
from sam4mllm.segmenters import DraftingScene
from sam4mllm.segmenters.box import BoxSegmenter, fill
from sam4mllm.segmenters.enlarging import Enlarging
from sam4mllm.segmenters.hf import HfSegmenter
from sam4mllm.segmenters.load import build_segmenter
from sam4mllm.synthetic import draw_split
from sam4mllm.targets.search import candidates
from tests.segmenters.small import CLASSES, build

SIZES = [(48, 80), (91, 37), (200, 333)]


@pytest.fixture(scope="module", params=CLASSES)
def segmenter(request, tmp_path_factory):
    return HfSegmenter.load(build(request.param, tmp_path_factory.mktemp(request.param)), device="cpu")


def case(height: int, width: int):
    """A picture of noise, a mask with a hole, and prompts for it with 0 to 3 clicks of each sign."""
    rng = np.random.default_rng([height, width])
    mask = fill(Box(width * 0.2, height * 0.3, width * 0.7, height * 0.9), height, width)
    mask[height // 2 : height // 2 + 5, width // 3 : width // 2] = False
    prompts = candidates(mask, 11, positive=3, negative=3, rng=rng, jitter=0.2, fewer=3)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), mask, prompts


@pytest.mark.parametrize("size", SIZES)
def test_drafts_are_compared_as_the_class_itself_enlarges_them(segmenter, size):
    image, mask, prompts = case(*size)
    drafts = segmenter.embed(image).draft(prompts)
    rows = range(len(prompts))
    full = [iou(scored.mask, mask) for scored in drafts.masks(rows)]
    assert np.ptp(full) > 0.003  # the ranking is not of equals
    assert drafts.ious(rows, mask) == pytest.approx(full, abs=1e-3)


def test_drafts_are_the_masks_that_the_scene_draws(segmenter):
    image, _, prompts = case(48, 80)
    scene = segmenter.embed(image)
    for one, other in zip(scene.draft(prompts).masks(range(len(prompts))), scene.segment(prompts), strict=True):
        assert iou(one.mask, other.mask) > 0.998
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_draft_is_the_same_whatever_else_is_drawn(segmenter):
    image, mask, prompts = case(48, 80)
    scene = segmenter.embed(image)
    together = scene.draft(prompts)
    for row, prompt in enumerate(prompts):
        alone = scene.draft([prompt])
        assert (alone.masks([0])[0].mask == together.masks([row])[0].mask).mean() > 0.999
        assert alone.ious([0], mask) == pytest.approx(together.ious([row], mask), abs=1e-3)


def test_rows_can_be_asked_for_in_any_order(segmenter):
    image, mask, prompts = case(48, 80)
    drafts = segmenter.embed(image).draft(prompts)
    ious = drafts.ious(range(len(prompts)), mask)
    assert drafts.ious([7, 2, 7], mask) == [ious[7], ious[2], ious[7]]
    assert [one.score for one in drafts.masks([5, 0])] == [drafts.masks([row])[0].score for row in (5, 0)]


def test_the_embedded_model_ranks_as_at_full_size():
    segmenter, rng = build_segmenter("tiny", device="cpu"), np.random.default_rng(0)
    for index in range(6):
        drawing = draw_split("test", index)
        scene = segmenter.embed(drawing.image)
        for figure in drawing.figures:
            prompts = candidates(figure.mask, 16, positive=3, negative=3, rng=rng)
            drafts = scene.draft(prompts)
            full = [iou(scored.mask, figure.mask) for scored in scene.segment(prompts)]
            assert drafts.ious(range(16), figure.mask) == pytest.approx(full, abs=5e-3)


@pytest.mark.parametrize(
    ("drawn", "true", "counts"),
    [
        pytest.param((0, 0), (0, 0), (0, 0), id="nothing at all"),
        pytest.param((0, 0), (4, 8), (0, 4), id="nothing drawn"),
        pytest.param((2, 4), (0, 0), (0, 4), id="no mask"),
        pytest.param((2, 4), (4, 8), (4, 4), id="the same"),
        pytest.param((2, 4), (0, 8), (4, 8), id="a part of it"),
        pytest.param((0, 1), (6, 8), (0, 4), id="apart"),
    ],
)
def test_pixels_are_counted_by_hand(drawn, true, counts):
    """One row of 4 cells, 1 or -1, over 8 pixels: each cell is 2 pixels, halfway to the next."""
    logits = torch.full((1, 1, 4), -1.0)
    logits[..., slice(*drawn)] = 1.0
    mask = np.zeros((1, 8), dtype=bool)
    mask[:, slice(*true)] = True
    both, whole = Enlarging((1, 4), [(1, 1)], [(8, 8)], torch.device("cpu")).overlaps(logits, mask)
    assert (both.tolist(), whole.tolist()) == ([counts[0]], [counts[1]])


def test_only_scenes_that_draw_small_have_drafts(segmenter):
    picture = np.zeros((8, 8, 3), np.uint8)
    assert isinstance(segmenter.embed(picture), DraftingScene)
    assert not isinstance(BoxSegmenter().embed(picture), DraftingScene)


def test_a_prompt_without_points_is_drafted_too(segmenter):
    [score] = segmenter.embed(case(48, 80)[0]).draft([Prompt(Box(5, 5, 40, 40))]).ious([0], case(48, 80)[1])
    assert 0 <= score <= 1
