"""A merged model gives the replies of the adapter, and needs neither the adapter nor the base."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.merge import merge
from sam4mllm.training.trainer import finetune
from tests.families import build

# peft and trl use properties of transformers that are deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PICTURE = np.full((60, 90, 3), 90, dtype=np.uint8)
TURNS = [Turn("user", "Where is the cat?"), Turn("assistant", "[100,200,300,400]")]


def train(family: str, folder: Path) -> Path:
    """An adapter whose base is in ``folder``; the card has the base and the prompter's options."""
    base = build(family, folder / "base")
    mllm = HfMLLM.load(base, device="cpu", dialect="gemma")
    card = AdapterCard("", "", str(base), prompters={"ppg": {"positive": 2, "negative": 1}})
    training = Training(max_steps=2, per_device_train_batch_size=1, learning_rate=1e-2, lora=Lora(r=4, lora_alpha=8))
    return finetune(mllm, lambda _: (PICTURE, TURNS), training, folder / "adapter", card=card)


@torch.no_grad()
def logits(mllm: HfMLLM) -> torch.Tensor:
    return mllm.model(**mllm.rows([(PICTURE, TURNS)])).logits


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_the_merged_model_gives_the_replies_of_the_adapter(family, tmp_path, command):
    adapter = train(family, tmp_path)
    code, out, err = command("merge", adapter, "--out", tmp_path / "merged")
    next_command = f"infer IMAGE --phrase PHRASE --mllm {tmp_path / 'merged'} --segmenter SEGMENTER --out out"
    assert err.splitlines()[-1] == f"next: sam4mllm {next_command}"
    assert (code, out) == (0, f"written to {tmp_path / 'merged'}\n")
    base, merged = (HfMLLM.load(tmp_path / name, device="cpu") for name in ("base", "merged"))
    adapted = HfMLLM.load(tmp_path / "base", adapter=adapter, device="cpu")
    assert merged.dialect == adapted.dialect
    assert merged.dialect.name == "gemma"
    assert torch.allclose(logits(merged), logits(adapted), atol=1e-4)
    assert not torch.allclose(logits(merged), logits(base), atol=1e-3)
    assert AdapterCard.read(tmp_path / "merged").options("ppg") == {"positive": 2, "negative": 1}
    assert not list(tmp_path.glob(".*.part"))
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def poison(folder: Path) -> None:
    file = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: value * float("nan") for name, value in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda folder: (folder / "adapter" / CARD).unlink(), f"has no {CARD}", id="no card"),
        pytest.param(lambda folder: (folder / "merged" / "a").mkdir(parents=True), "is not empty", id="out"),
        pytest.param(lambda folder: (folder / "base").rename(folder / "moved"), "unknown MLLM", id="no base"),
        pytest.param(lambda folder: build("llava", folder / "base", seed=1), "trained on a different base", id="base"),
        pytest.param(poison, "cannot be merged", id="nan"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused_and_nothing_is_written(change, message, tmp_path):
    train("llava", tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        merge(tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged" / "config.json").exists()


@pytest.mark.parametrize(
    ("place", "out", "message"),
    [
        ("adapter", ".", "is not empty: give a new folder"),
        ("new", "../adapter", "is not empty"),
        ("new", ".", r"\. is the working folder: give a new folder"),
    ],
)
def test_an_output_folder_that_cannot_be_replaced_is_refused_before_the_base_is_read(
    place, out, message, tmp_path, monkeypatch
):
    AdapterCard("", "", str(tmp_path / "nowhere")).write(tmp_path / "adapter")
    (tmp_path / place).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    with pytest.raises(UserError, match=message):
        merge(tmp_path / "adapter", Path(out))
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == [CARD]
