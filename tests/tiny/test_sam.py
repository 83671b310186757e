import numpy as np
import pytest
import torch

from sam4mllm.geometry import Box
from sam4mllm.segmenter.hf import HfSegmenter
from sam4mllm.settings import load
from sam4mllm.tiny import sam
from sam4mllm.tiny.sam import SamTraining, batch, build, jittered, loss, train


def test_it_is_small():
    assert sum(weight.numel() for weight in build(0)[0].parameters()) < 1_000_000


def test_training_and_asking_give_the_model_the_same_tensors():
    """A batch's tensors are those that the segmenter makes of the same picture and prompts."""
    recipe = SamTraining("", scenes=1, prompts=2)
    step = next(step for step in range(20) if "input_points" in batch(recipe, step)[0])
    inputs, _ = batch(recipe, step)
    processor = build(0)[1]
    image = inputs["pixel_values"][0].permute(1, 2, 0) * torch.tensor([0.229, 0.224, 0.225])
    image = ((image + torch.tensor([0.485, 0.456, 0.406])) * 255).round().to(torch.uint8).numpy()
    made = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(made, inputs["pixel_values"][0], atol=1e-5)
    assert inputs["input_points"].shape[:2] == (1, 2)
    assert bool((inputs["input_points"] == inputs["input_points"].round()).all())  # centres, as indices of pixels


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


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(sam, "measure", lambda *_: {})

    def recipe(name):
        return SamTraining(str(tmp_path / name), steps=60, scenes=1, prompts=1, every=30)

    real = sam.batch

    def stopping(recipe, step):
        if step == 40:
            raise InterruptedError
        return real(recipe, step)

    whole = HfSegmenter.load(train(recipe("whole")), device="cpu")
    monkeypatch.setattr(sam, "batch", stopping)
    with pytest.raises(InterruptedError):
        train(recipe("parts"))
    monkeypatch.setattr(sam, "batch", real)
    parts = HfSegmenter.load(train(recipe("parts")), device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))


def test_the_recipe_loads():
    assert load(sam.Path("recipes/tiny/sam.yaml"), SamTraining).prompts == 4
