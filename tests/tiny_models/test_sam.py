import numpy as np
import pytest
import torch

from sam4mllm.errors import UserError
from sam4mllm.segmenters import ScoredMask
from sam4mllm.segmenters.hf import HfSegmenter
from tiny_models import sam
from tiny_models.loop import Loop
from tiny_models.sam import TWINS, SamTraining, batch, build, loss, measure, train


def test_the_segmenter_is_small():
    assert sum(weight.numel() for weight in build(0)[0].parameters()) < 1_000_000


def recipe_of(out="", **changes):
    return SamTraining(str(out), **({"scenes": 1, "prompts": 2, "loop": Loop(1, 1)} | changes))


def test_a_batch_has_the_tensors_that_the_segmenter_computes():
    batches = (batch(recipe_of(), step) for step in range(20))
    chosen = next(chosen for chosen in batches if len(chosen.prompts) == 3)
    processor = build(0)[1]
    pixels = processor(images=chosen.drawings[0].image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(pixels, chosen.pixels[0], atol=1e-5)
    assert chosen.prompts["input_points"].shape[:2] == (1, 2)
    points = chosen.prompts["input_points"]
    assert bool((points == points.round()).all())  # centres, as indices of pixels


def test_without_a_box_a_point_is_on_the_figure():
    recipe = recipe_of(boxless=0.99)
    for step in range(10):
        chosen = batch(recipe, step)
        assert chosen.certain
        assert "input_boxes" not in chosen.prompts
        assert bool((chosen.prompts["input_labels"] == 1).any(dim=-1).all())


def test_the_best_mask_counts_alone_unless_the_prompt_is_certain():
    ground_truth = torch.zeros(1, 1, 8, 8)
    ground_truth[..., :4] = 1
    logits = torch.stack([ground_truth * 40 - 20, 20 - ground_truth * 40, 20 - ground_truth * 40], dim=2)
    scores = torch.tensor([[[1.0, 0.0, 0.0]]])
    assert loss(logits, scores, ground_truth, certain=False) < 0.01
    assert loss(logits, scores, ground_truth, certain=True) > 10


def test_the_mask_loss_trains_the_encoder(tmp_path):
    """The model's own method for embeddings would detach the gradient."""
    before = build(0)[0].vision_encoder.patch_embed.projection.weight
    train(recipe_of(tmp_path, loop=Loop(0, 2), grain=0.0, reading=0.0))
    after = HfSegmenter.load(tmp_path, device="cpu").model.vision_encoder.patch_embed.projection.weight
    assert (before - after).abs().max() > 1e-5


def test_the_measure_uses_the_requested_number_of_points(monkeypatch):
    """The segmenter's mask consists of the pixels of the positive points."""
    received = []

    class Scene:
        def segment(self, prompts):
            received.extend(prompts)
            mask = np.zeros((112, 112), dtype=bool)
            for point in prompts[0].points:
                mask[int(point.y), int(point.x)] |= point.positive
            return [ScoredMask(mask, 1.0)]

    monkeypatch.setattr(sam.HfSegmenter, "embed", lambda *_: Scene())
    ious = measure(*build(0), 2, TWINS)
    assert ious[0] == 0 < ious[1] <= ious[3]
    assert {sum(point.positive for point in prompt.points) for prompt in received} == {0, 1, 3}
    assert {len(prompt.points) for prompt in received} == {0, 1, 6}


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"loop": Loop(1, 1)}, {"loop": Loop(1, 0, learning_rate=1e-5)}],
    ids=["seed", "steps", "rate"],
)
def test_a_run_does_not_resume_with_another_recipe(tmp_path, change):
    train(recipe_of(tmp_path, loop=Loop(1, 0)))
    with pytest.raises(UserError, match="was started with another recipe"):
        train(recipe_of(tmp_path, **{"loop": Loop(1, 0), **change}))
    train(recipe_of(tmp_path, loop=Loop(1, 0, every=7)))


@pytest.mark.parametrize("slip", [{"seed": -1}, {"scenes": 0}, {"twins": 2.0}, {"boxless": 1.5}])
def test_out_of_range_values_are_refused(slip):
    with pytest.raises(UserError):
        recipe_of(**slip)
