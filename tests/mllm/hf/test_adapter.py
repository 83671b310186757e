from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.language.dialects import dialect
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.mllm.hf.adapter import base_fingerprint, insert_adapter
from sam4mllm.mllm.hf.model import HfMLLM
from tests.families import build

FAMILY = "llava_onevision"
FolderOf = Callable[[str], Path]

# peft uses a deprecated name of a transformers property
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def load(folder: Path, dtype: str = "auto") -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)


@pytest.fixture(scope="module")
def adapter(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with random weights on the family's decoder, and its card."""
    base, folder = load(folder_of(FAMILY)), tmp_path_factory.mktemp("adapter")
    card = AdapterCard(base_fingerprint(base), "gemma")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=r".*language_model.*q_proj"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    card.write(folder)
    return folder


def chances(mllm: HfMLLM, images: list[Image]) -> np.ndarray:
    return np.concatenate(mllm.open(images).choose([["Is it?"]] * 2, ("Yes", "No")))


def test_an_adapter_changes_the_output_and_sets_the_dialect(
    folder_of: FolderOf, adapter: Path, images: list[Image]
) -> None:
    base = HfMLLM.load(folder_of(FAMILY), device="cpu")
    mllm = HfMLLM.load(folder_of(FAMILY), device="cpu", adapter=adapter)
    assert np.abs(chances(base, images) - chances(mllm, images)).max() > 1e-3
    assert mllm.dialect is dialect("gemma")
    assert HfMLLM.load(folder_of(FAMILY), device="cpu", adapter=adapter, dialect="sam4mllm").dialect.name == "sam4mllm"
    assert base.dialect is not dialect("gemma")


def test_a_moved_base_is_the_same_base(folder_of: FolderOf, adapter: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder_of(FAMILY), tmp_path / "renamed")
    HfMLLM.load(moved, device="cpu", adapter=adapter)
    saved = load(moved)
    saved.save_pretrained(tmp_path / "again")
    assert base_fingerprint(load(tmp_path / "again")) == base_fingerprint(saved)


def test_a_base_loaded_in_another_dtype_is_the_same_base(folder_of: FolderOf, adapter: Path) -> None:
    HfMLLM.load(folder_of(FAMILY), device="cpu", adapter=adapter, dtype="bfloat16")
    HfMLLM.load(folder_of(FAMILY), device="cpu", adapter=adapter, attention="eager")


@pytest.mark.parametrize("other", ["weights", "class"])
def test_another_base_is_refused(other: str, folder_of: FolderOf, adapter: Path, tmp_path: Path) -> None:
    folder = build(FAMILY, tmp_path, seed=1) if other == "weights" else folder_of("internvl")
    with pytest.raises(UserError, match="trained on a different base model"):
        HfMLLM.load(folder, device="cpu", adapter=adapter)


def test_an_adapter_without_a_card_is_loaded_with_a_warning_if_it_fits(
    folder_of: FolderOf, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = shutil.copytree(adapter, tmp_path / "bare", ignore=shutil.ignore_patterns("sam4mllm.json"))
    assert HfMLLM.load(folder_of(FAMILY), device="cpu", adapter=bare).dialect.name == "llava"
    assert "has no sam4mllm.json" in caplog.text


@pytest.mark.parametrize("other", ["qwen3_5", "paligemma"], ids=["other layers", "other names"])
def test_an_adapter_that_does_not_fit_is_refused(
    other: str, folder_of: FolderOf, adapter: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(adapter, tmp_path / "bare", ignore=shutil.ignore_patterns("sam4mllm.json"))
    if other == "paligemma":
        config = json.loads((bare / "adapter_config.json").read_text())
        (bare / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["no_such_layer"]}))
    with pytest.raises(UserError, match="does not fit"):
        HfMLLM.load(folder_of(other), device="cpu", adapter=bare)


@pytest.mark.parametrize("kind", ["gone", "cut short"])
def test_an_adapter_with_missing_or_damaged_weights_is_refused(
    kind: str, folder_of: FolderOf, adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    data = file.read_bytes()
    file.unlink()
    if kind == "cut short":
        file.write_bytes(data[:100])
    with pytest.raises(UserError) as error:
        insert_adapter(load(folder_of(FAMILY)), folder)
    assert "\n" not in str(error.value)
