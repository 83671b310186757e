import numpy as np
import torch

from sam4mllm.geometry import Box
from sam4mllm.segmenter.hf import HfSegmenter
from sam4mllm.tiny.loop import Loop
from sam4mllm.tiny.sam import TWINS, SamTraining, batch, build, jittered, loss, measure, train


def test_it_is_small():
    assert sum(weight.numel() for weight in build(0)[0].parameters()) < 1_000_000


def recipe_of(out="", **changes):
    return SamTraining(str(out), **({"scenes": 1, "prompts": 2, "loop": Loop(1, 1)} | changes))


def test_training_and_asking_give_the_model_the_same_tensors():
    """A batch's tensors are those that the segmenter makes of the same picture and prompts."""
    recipe = recipe_of()
    chosen = next(each for each in (batch(recipe, step) for step in range(20)) if len(each.prompts) == 3)
    processor = build(0)[1]
    made = processor(images=chosen.drawings[0].image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(made, chosen.pixels[0], atol=1e-5)
    assert chosen.prompts["input_points"].shape[:2] == (1, 2)
    points = chosen.prompts["input_points"]
    assert bool((points == points.round()).all())  # centres, as indices of pixels


def test_without_a_box_a_point_is_on_the_figure():
    recipe = recipe_of(boxless=1.0)
    for step in range(10):
        chosen = batch(recipe, step)
        assert chosen.certain
        assert "input_boxes" not in chosen.prompts
        assert bool((chosen.prompts["input_labels"] == 1).any(dim=-1).all())


def test_an_edge_is_moved_by_its_share_at_most_and_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(100):
        box = jittered(Box(0, 10, 50, 110), 0.1, rng)
        assert max(abs(a - b) for a, b in zip(box.xyxy, (0, 10, 50, 110), strict=True)) <= 10
        assert min(box.xyxy) >= 0
        assert max(box.xyxy) <= 112


def test_the_best_mask_counts_alone_unless_the_prompt_is_certain():
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    logits = torch.stack([truth * 40 - 20, 20 - truth * 40, 20 - truth * 40], dim=2)
    scores = torch.tensor([[[1.0, 0.0, 0.0]]])
    assert loss(logits, scores, truth, certain=False) < 0.01
    assert loss(logits, scores, truth, certain=True) > 10


def test_the_loss_of_the_encoder_reaches_the_encoder(tmp_path):
    """Asking the model for an embedding by its own method would cut the gradient."""
    before = build(0)[0].vision_encoder.patch_embed.projection.weight
    train(recipe_of(tmp_path, loop=Loop(2, 1)))
    after = HfSegmenter.load(tmp_path, device="cpu").model.vision_encoder.patch_embed.projection.weight
    assert not torch.equal(before, after)


def test_twins_are_drawn_apart_by_points_that_are_read():
    """The measure is of the right prompts: what draws the box gets less than what draws the truth."""
    model, processor = build(0)
    found = measure(model, processor, 2, TWINS)
    assert set(found) == {0, 1, 3}
    assert all(0 <= share <= 100 for share in found.values())
