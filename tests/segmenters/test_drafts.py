"""Drafts against the masks of the same scene at full size, on every class and images of odd sizes."""

import numpy as np
import pytest
import torch

from sam4mllm.geometry.prompts import Box, Prompt, iou
from sam4mllm.segmenters import DraftingScene, hf
from sam4mllm.segmenters.box import BoxSegmenter, fill
from sam4mllm.segmenters.decoding import LogitDrafts
from sam4mllm.segmenters.hf import HfSegmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import draw_split
from sam4mllm.targets.search import Search, candidates
from tests.segmenters.small import CLASSES, build, slopes

SIZES = [(48, 80), (91, 37), (200, 333)]


@pytest.fixture(scope="module", params=CLASSES)
def segmenter(request, tmp_path_factory):
    return HfSegmenter.load(build(request.param, tmp_path_factory.mktemp(request.param)), device="cpu")


def case(height: int, width: int):
    """An image of noise, a mask with a hole, and prompts for it with 0 to 3 points of each sign."""
    rng = np.random.default_rng([height, width])
    mask = fill(Box(width * 0.2, height * 0.3, width * 0.7, height * 0.9), height, width)
    mask[height // 2 : height // 2 + 5, width // 3 : width // 2] = False
    prompts = candidates(mask, Search(candidates=11, jitter=0.2, fewer=3), rng)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), mask, prompts


@pytest.mark.parametrize("size", SIZES)
def test_estimates_are_close_to_the_ious_at_full_size(segmenter, size, monkeypatch):
    monkeypatch.setattr(hf, "pick_best", slopes)
    image, mask, prompts = case(*size)
    rows = range(11)
    drafts = segmenter.embed(image).draft([prompts[0] for _ in rows])
    exact = [iou(scored.mask, mask) for scored in drafts.masks(rows)]
    assert np.ptp(exact) > 0.1
    assert drafts.approximate_ious(rows, mask) == pytest.approx(exact, abs=0.02)


def test_enlarged_drafts_equal_the_masks_of_segment(segmenter):
    image, _, prompts = case(48, 80)
    scene = segmenter.embed(image)
    for draft, full in zip(scene.draft(prompts).masks(range(len(prompts))), scene.segment(prompts), strict=True):
        assert iou(draft.mask, full.mask) > 0.998
        assert draft.score == pytest.approx(full.score, abs=1e-4)


def test_a_draft_does_not_depend_on_other_prompts(segmenter):
    image, mask, prompts = case(48, 80)
    scene = segmenter.embed(image)
    together = scene.draft(prompts)
    for row, prompt in enumerate(prompts):
        lock_folder = scene.draft([prompt])
        assert (lock_folder.masks([0])[0].mask == together.masks([row])[0].mask).mean() > 0.999
        assert lock_folder.approximate_ious([0], mask) == pytest.approx(
            together.approximate_ious([row], mask), abs=1e-3
        )


def test_rows_can_be_selected_in_any_order(segmenter):
    image, mask, prompts = case(48, 80)
    drafts = segmenter.embed(image).draft(prompts)
    ious = drafts.approximate_ious(range(len(prompts)), mask)
    assert drafts.approximate_ious([7, 2, 7], mask) == [ious[7], ious[2], ious[7]]
    assert [scored.score for scored in drafts.masks([5, 0])] == [drafts.masks([row])[0].score for row in (5, 0)]


def test_the_better_half_by_estimate_contains_nearly_the_best_candidate():
    segmenter, rng, losses = SegmenterSpec("tiny", device="cpu").load(), np.random.default_rng(0), []
    for index in range(6):
        scene_image = draw_split("test", index)
        scene = segmenter.embed(scene_image.image)
        for figure in scene_image.figures:
            prompts = candidates(figure.mask, Search(candidates=16), rng)
            estimates = scene.draft(prompts).approximate_ious(range(16), figure.mask)
            exact = np.array([iou(scored.mask, figure.mask) for scored in scene.segment(prompts)])
            losses.append(exact.max() - exact[np.argsort(estimates)[8:]].max())
    assert np.mean(losses) < 0.002


@pytest.mark.parametrize(
    ("drawn", "true", "shown", "expected"),
    [
        pytest.param((2, 4), (4, 8), 1.0, 1.0, id="the same"),
        pytest.param((2, 4), (0, 8), 1.0, 0.5, id="a part of it"),
        pytest.param((0, 1), (6, 8), 1.0, 0.0, id="apart"),
        pytest.param((0, 0), (4, 8), 1.0, 0.0, id="an empty draft"),
        pytest.param((0, 2), (0, 3), 1.0, 0.75, id="half a cell"),
        pytest.param((0, 1), (0, 4), 0.5, 1.0, id="the second half of the cells is padding"),
        pytest.param((0, 4), (0, 4), 0.5, 0.5, id="a draft in the padding does not count"),
        pytest.param((0, 1), (0, 8), 0.1, 1.0, id="an image that is less than a cell wide"),
    ],
)
def test_estimates_by_hand(drawn, true, shown, expected):
    """One row of 4 cells over 8 pixels, or of fewer cells if some are padding."""
    logits = torch.full((1, 1, 4), -50.0)
    logits[..., slice(*drawn)] = 50.0
    mask = np.zeros((1, 8), dtype=bool)
    mask[:, slice(*true)] = True
    drafts = LogitDrafts(logits, [1.0], (1.0, shown), mask.shape, lambda chunk: chunk > 0)
    assert drafts.approximate_ious([0], mask) == pytest.approx([expected], abs=1e-6)


def test_only_scenes_with_small_masks_have_drafts(segmenter):
    picture = np.zeros((8, 8, 3), np.uint8)
    assert isinstance(segmenter.embed(picture), DraftingScene)
    assert not isinstance(BoxSegmenter().embed(picture), DraftingScene)


def test_a_prompt_without_points_is_drafted_too(segmenter):
    [score] = segmenter.embed(case(48, 80)[0]).draft([Prompt(Box(5, 5, 40, 40))]).approximate_ious([0], case(48, 80)[1])
    assert 0 <= score <= 1
