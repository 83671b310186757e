import pytest
import torch
from torch import nn

from tiny_models.loop import CHECKPOINT, Loop, optimizers, share, train


def parts():
    torch.manual_seed(0)
    return {"model": nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), "head": nn.Linear(1, 1)}


def learn(out, loop, stop=None):
    modules = parts()

    def loss(step):
        if step == stop:
            raise InterruptedError
        rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        value = ((modules["head"](modules["model"](rows)) - rows.sum(1, keepdim=True)) ** 2).mean()
        return value, {"error": value.item()}

    done = []
    train(modules, loss, loop, out, done.append)
    return torch.cat([weight.flatten() for module in modules.values() for weight in module.parameters()]), done


def test_the_loss_falls(tmp_path, caplog):
    caplog.set_level("INFO")
    learn(tmp_path, Loop(50, 350, learning_rate=0.05))
    errors = [float(record.message.split("error ")[1]) for record in caplog.records]
    assert len(errors) == 8
    assert errors[-1] < 0.2 * errors[0]


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    loop = Loop(10, 20, every=8)
    weights, done = learn(tmp_path / "whole", loop)
    assert done == [8, 16, 24, 30]
    with pytest.raises(InterruptedError):
        learn(tmp_path / "parts", loop, stop=20)
    resumed, done = learn(tmp_path / "parts", loop)
    assert done == [24, 30]
    assert learn(tmp_path / "parts", loop)[1] == [
        30
    ]  # the model is written again: the last write may have been interrupted
    assert torch.equal(weights, resumed)
    assert (tmp_path / "parts" / CHECKPOINT).exists()


def test_every_weight_has_one_optimizer():
    modules = parts()
    modules["tied"] = modules["head"]
    groups = [group for optimizer in optimizers(list(modules.values()), 1.0) for group in optimizer.param_groups]
    stepped = [weight for group in groups for weight in group["params"]]
    assert len({id(weight) for weight in stepped}) == len(stepped) == 8


def test_the_learning_rate_rises_twice_and_falls_once():
    loop = Loop(100, 200)
    assert share(0, loop) < share(59, loop) == share(99, loop) == 1
    assert share(100, loop) < 0.05 < 0.7 < share(160, loop)
    assert share(299, loop) == pytest.approx(0.03, abs=0.001)
