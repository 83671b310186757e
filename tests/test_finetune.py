"""Training through TRL on small random models: it learns, leaves the base as it was, goes on, and loads again."""

import numpy as np
import pytest
import torch

from sam4mllm.finetune import Training, finetune
from sam4mllm.mllm import Turn
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.trainable import Lora
from tests.families import build

pytestmark = [
    # peft and trl ask transformers for properties by names that it deprecates
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
PICTURES = [np.full((40, 60, 3), shade, dtype=np.uint8) for shade in (40, 200)]


def row(index):
    said = ("[100,200,300,400]", "none")[index % 2]
    return PICTURES[index % 2], [Turn("user", "Where is the cat?"), Turn("assistant", said)]


def loss_of(mllm) -> float:
    with torch.no_grad():
        return float(mllm.model(**mllm.rows([row(0), row(1)])).loss)


@pytest.fixture(params=["llava", "qwen2_5_vl"])
def folder(request, tmp_path):
    return build(request.param, tmp_path / "base")


def load(folder, **options):
    return HfMLLM.load(folder, device="cpu", **options)


def test_a_lora_learns_and_loads_again_and_the_base_keeps_its_weights(folder, tmp_path):
    mllm = load(folder)
    before, first = {name: value.clone() for name, value in mllm.model.state_dict().items()}, loss_of(mllm)
    out = finetune(mllm, row, Training(steps=6, batch=2, learning_rate=1e-2, lora=Lora(4, 8)), tmp_path / "out")
    again = load(folder, adapter=out)
    assert loss_of(again) < first - 0.1
    assert again.dialect == mllm.dialect
    after = load(folder).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kept = {name.replace(".base_layer", ""): value for name, value in again.model.state_dict().items()}
    assert all(torch.equal(kept[name], before[name]) for name in before)


def test_all_weights_can_be_trained_and_the_whole_model_is_written(tmp_path):
    mllm = load(build("llava", tmp_path / "base"))
    first = loss_of(mllm)
    out = finetune(mllm, row, Training(steps=6, batch=2, learning_rate=3e-3, lora=None), tmp_path / "out")
    assert loss_of(load(out)) < first - 0.1


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    base = build("llava", tmp_path / "base")
    training = Training(steps=4, batch=2, learning_rate=1e-2, lora=Lora(4, 8, dropout=0.1), save_every=2)
    whole = finetune(load(base), row, training, tmp_path / "whole")

    class Stop(Exception):
        pass

    asked = []

    def stopping(index):
        asked.append(index)
        if len(asked) > 6:  # the trainer fetches a batch ahead, and the first checkpoint follows the fourth row
            raise Stop
        return row(index)

    with pytest.raises(Stop):
        finetune(load(base), stopping, training, tmp_path / "parts")
    assert (tmp_path / "parts" / "checkpoints" / "checkpoint-2").is_dir()
    parts = finetune(load(base), row, training, tmp_path / "parts")
    a, b = (load(base, adapter=folder).model.state_dict() for folder in (whole, parts))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
