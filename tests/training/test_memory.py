"""The estimated memory of a step: laws, and the same count on real tensors."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.lora import attach_lora, parts_of
from sam4mllm.training.memory import PACKED, Memory, _activations, estimate_shape
from tests.families import FAMILIES

# peft uses properties of transformers that are deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LORA = Training(max_steps=1, per_device_train_batch_size=1, lora=Lora(r=4, lora_alpha=8))


def on_meta(family: str, dtype: torch.dtype = torch.bfloat16):
    model, _ = FAMILIES[family]()
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(model.config, dtype=dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_is_estimated_without_weights_for_every_class(family):
    shape = estimate_shape(on_meta(family), replace(LORA, bf16=True, gradient_checkpointing=True), tokens=64)
    model, _ = FAMILIES[family]()
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    adapted = attach_lora(model, LORA.lora, mixed=False)
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert sum(shape.trained.values()) == trained
    language = {name for name in shape.trained if name.startswith("language model, LoRA on ")}
    assert len(language) > 1
    assert len(shape.trained) == len(language) + 1  # and the projector, one way or the other
    memory = shape.memory
    assert (memory.trained, memory.gradients, memory.moments) == (4 * trained, 4 * trained, 8 * trained)
    assert memory.weights == 2 * shape.parameters
    assert memory.activations > 0


@pytest.mark.parametrize(
    ("lora", "group"),
    [
        (Lora(r=4, lora_alpha=8), "projector, LoRA"),
        (Lora(r=4, lora_alpha=8, projector="full"), "projector, full copies"),
        (Lora(r=4, lora_alpha=8, projector="frozen"), None),
        (None, "all weights"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_trained_parameters_are_grouped_by_place(lora, group):
    shape = estimate_shape(on_meta("llava"), replace(LORA, lora=lora), tokens=32)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] if lora else []
    named = {f"language model, LoRA on {layer}" for layer in layers}
    assert set(shape.trained) == named | ({group} if group else set())
    if lora:  # rank 4, two layers, 64 wide
        assert shape.trained["language model, LoRA on q_proj"] == 2 * 4 * (64 + 64)
    if lora is None:
        assert (shape.memory.trained, shape.memory.gradients) == (0, 2 * shape.parameters)


def test_only_the_language_models_layers_except_the_last_are_packed():
    model = on_meta("llava")
    packed = sum(model.get_submodule(name).weight.numel() for name in parts_of(model).language[:-1])
    whole = estimate_shape(on_meta("llava"), LORA, 32).memory.weights
    smaller = estimate_shape(model, replace(LORA, quantize="4bit"), 32).memory.weights
    assert smaller == pytest.approx(whole - packed * (2 - PACKED), rel=1e-4)
    assert pytest.approx(4.127 / 8, rel=1e-3) == PACKED  # bits a weight, in QLoRA's section 3


def test_activations_grow_with_tokens_and_rows_and_shrink_with_checkpointing():
    def kept(**changes) -> int:
        tokens = changes.pop("tokens", 64)
        return estimate_shape(on_meta("llava"), replace(LORA, **changes), tokens).memory.activations

    assert kept(tokens=128) == pytest.approx(2 * kept(), rel=0.02)
    assert kept(per_device_train_batch_size=4) == pytest.approx(2 * kept(per_device_train_batch_size=2), rel=0.02)
    # in a batch some rows are padded: each block keeps a mask
    assert kept(per_device_train_batch_size=2) > kept(tokens=128)
    # the inputs of the two blocks: 64 tokens, 64 wide, 2 bytes each
    assert kept(gradient_checkpointing=True) == 2 * 64 * 64 * 2 < kept() / 4
    assert kept(lora=Lora(r=4, lora_alpha=8, lora_dropout=0.5)) > kept()


def test_the_peak_is_the_sum_of_its_parts():
    memory = Memory(100, 10, 10, 20, 50, 7, accumulated=True)
    assert memory.peak == 100 + 10 + 10 + 20 + 50 + 7
    assert replace(memory, accumulated=False).peak == 100 + 10 + 20 + 57
    assert replace(memory, gradients=90, accumulated=False).peak == 100 + 10 + 20 + 90


@pytest.mark.parametrize(
    ("family", "batch"), [("llava", 1), ("llava", 2), ("qwen3_vl", 1), ("qwen3_vl", 2), ("gemma3", 2)]
)
def test_fake_tensors_give_the_same_count_as_real_ones(family, batch):
    model, _ = FAMILIES[family]()
    adapted = attach_lora(model, LORA.lora, mixed=False).train()
    decoder, saved = model.get_decoder(), {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    hidden = torch.randn(batch, 48, 64, requires_grad=True)
    padded = torch.ones(batch, 48, dtype=torch.long)
    padded[1:, 40:] = 0
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        output = decoder(inputs_embeds=hidden, attention_mask=padded, use_cache=False)
    weights = {tensor.untyped_storage()._cdata for tensor in (*adapted.parameters(), *adapted.buffers())}
    real = sum(size for storage, size in saved.items() if storage not in weights)
    assert output is not None
    training = replace(LORA, per_device_train_batch_size=batch)
    assert _activations(model, training, 48)[0] == real
