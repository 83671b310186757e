"""The trained modules in each family's real class; all other weights keep their values."""

import hashlib

import numpy as np
import pytest
import torch
from peft import PeftModel

from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.lora import attach_lora, parts_of
from sam4mllm.training.trainer import finetune
from tests.families import FAMILIES, build

# peft and trl use properties of transformers that are deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IMAGES = [np.full((60, 90, 3), 40, np.uint8), np.full((100, 70, 3), 200, np.uint8)]
TWO_LINEAR = {"model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"}
MERGER = {"model.visual.merger.mlp.0", "model.visual.merger.mlp.2"}
FC = {"model.visual.merger.linear_fc1", "model.visual.merger.linear_fc2"}
DEEP = {"model.visual.deepstack_merger_list.0.linear_fc1", "model.visual.deepstack_merger_list.0.linear_fc2"}
GATED = {f"model.visual.merger.{name}" for name in ("proj", "gate_proj", "up_proj", "down_proj")}
POOLING = {f"model.multi_modal_projector.image_pooling_2d.{name}_proj" for name in "qkvo"}
POOLED = {f"model.multi_modal_projector.image_projector.{name}_proj" for name in ("gate", "up", "down")}


@pytest.mark.parametrize(
    ("family", "projector", "bare"),
    [
        pytest.param("qwen2_vl", MERGER, set(), id="merger in the encoder"),
        pytest.param("qwen2_5_vl", MERGER, set(), id="merger in the encoder, windows"),
        pytest.param("qwen3_vl", FC | DEEP, set(), id="several mergers, larger than the blocks"),
        pytest.param("qwen3_5", FC, set(), id="linear attention"),
        pytest.param("llava", TWO_LINEAR, set(), id="two layers"),
        pytest.param("llava_next", TWO_LINEAR, set(), id="next to a vector"),
        pytest.param("llava_onevision", TWO_LINEAR, set(), id="another tower"),
        pytest.param("internvl", TWO_LINEAR, set(), id="downsampled"),
        pytest.param("smolvlm", {"model.connector.modality_projection.proj"}, set(), id="connector"),
        pytest.param("idefics3", {"model.connector.modality_projection.proj"}, set(), id="connector, other class"),
        pytest.param("gemma3", set(), {"model.multi_modal_projector"}, id="bare matrix, and a tower with a head"),
        pytest.param("molmo2", POOLING | POOLED, set(), id="attention pooling"),
        pytest.param("glm4v", GATED, set(), id="gated merger next to a convolution"),
        pytest.param("paligemma", {"model.multi_modal_projector.linear"}, set(), id="one layer"),
    ],
)
def test_the_projector_and_all_layers_of_the_language_model_are_found(family, projector, bare):
    model, _ = FAMILIES[family]()
    parts = parts_of(model)
    assert (set(parts.projector), set(parts.bare)) == (projector, bare)
    [decoder] = (name for name, module in model.named_modules() if module is model.get_decoder())
    layers = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name in layers if name.startswith(f"{decoder}.")} == set(parts.language)


def trained_modules(model) -> set[str]:
    """The modules with trained parameters, by their names in the base."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return {name.split(".lora_")[0].split(".modules_to_save")[0].removeprefix("base_model.model.") for name in names}


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
@pytest.mark.parametrize("projector", ["lora", "full", "frozen"])
def test_only_the_weights_selected_by_the_recipe_are_trained(family, projector):
    model, _ = FAMILIES[family]()
    parts = parts_of(model)
    lora = Lora(r=2, lora_alpha=4, target_modules=("*.q_proj", "*.down_proj"), projector=projector)
    adapted = attach_lora(model, lora, mixed=False)
    language = {name for name in parts.language if name.endswith(("q_proj", "down_proj"))}
    assert len(language) == 4
    between = set() if projector == "frozen" else {*parts.projector, *parts.bare}
    assert trained_modules(adapted) == language | between
    full = {name for name, _ in adapted.named_parameters() if "modules_to_save" in name}
    assert bool(full) is (projector == "full" or (projector == "lora" and bool(parts.bare)))


def test_a_target_that_matches_no_layer_is_refused():
    model, _ = FAMILIES["llava"]()
    with pytest.raises(UserError, match=r"matches '\*.qq_proj': use names such as model.language_model"):
        attach_lora(model, Lora(target_modules=("*.qq_proj",)), mixed=False)


@pytest.mark.parametrize("pattern", ["q_proj", "self_attn.q_proj", "*.q_proj", "*q_proj"])
def test_target_modules_are_name_endings_or_patterns(pattern):
    model, _ = FAMILIES["llava"]()
    adapted = attach_lora(model, Lora(r=2, target_modules=(pattern,), projector="frozen"), mixed=False)
    assert {name.rpartition(".")[2] for name in trained_modules(adapted)} == {"q_proj"}


def test_other_arguments_reach_peft():
    model, _ = FAMILIES["llava"]()
    others = {"use_rslora": True, "use_dora": True, "modules_to_save": ("lm_head",), "exclude_modules": ("k_proj",)}
    config = attach_lora(model, Lora(r=4, lora_alpha=8, **others), mixed=False).peft_config["default"]
    assert (config.use_rslora, config.use_dora, config.modules_to_save) == (True, True, ["lm_head"])
    assert (config.r, config.lora_alpha, config.exclude_modules) == (4, 8, {"k_proj"})


def test_arguments_that_peft_refuses_give_one_error_line():
    model, _ = FAMILIES["llava"]()
    with pytest.raises(UserError, match=r"LoraConfig refuses the values of training.lora: .*layers_to_transform"):
        attach_lora(model, Lora(layers_pattern=("layers",)), mixed=False)


def test_full_copies_are_in_float32_with_mixed_precision():
    model, _ = FAMILIES["gemma3"]()
    adapted = attach_lora(model.bfloat16(), Lora(r=2, lora_alpha=4), mixed=True)
    assert {value.dtype for value in adapted.parameters() if value.requires_grad} == {torch.float32}
    assert {value.dtype for value in adapted.parameters() if not value.requires_grad} == {torch.bfloat16}


def hashes(model) -> dict[str, str]:
    """The hashes of all parameters and buffers of a base, with or without an adapter."""
    hashes = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "lora_" not in name and "modules_to_save" not in name:
            for part in ("base_model.model.", ".base_layer", ".original_module"):
                name = name.replace(part, "")
            hashes[name] = hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()
    return hashes


# a processor of transformers calls np.array on a tensor, and torch's tensors do not know numpy's new keyword
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize(
    ("family", "projector"),
    [(family, "lora") for family in ("llava", "qwen2_5_vl", "qwen3_5", "gemma3", "glm4v")]
    + [(family, "full") for family in ("llava", "qwen3_vl", "paligemma")],
)
def test_training_changes_no_weight_of_the_base(family, projector, tmp_path):
    folder = build(family, tmp_path / "base")
    mllm, untouched = (HfMLLM.load(folder, device="cpu") for _ in range(2))
    before = hashes(untouched.model)
    turns = [Turn("user", "Where is the cat?"), Turn("assistant", "[100,200,300,400]")]
    lora = Lora(r=4, lora_alpha=8, projector=projector)
    training = Training(max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, lora=lora)
    out = finetune(mllm, lambda index: (IMAGES[index % 2], turns), training, tmp_path / "out")
    assert hashes(mllm.model) == before

    row = mllm.rows([(IMAGES[0], turns)])
    adapter = PeftModel.from_pretrained(untouched.model, str(out))
    assert hashes(adapter) == before
    with torch.no_grad():
        plain = HfMLLM.load(folder, device="cpu").model(**row).logits
        adapted = adapter(**row).logits
        with adapter.disable_adapter():
            disabled = adapter(**row).logits
    assert torch.equal(disabled, plain)
    assert (adapted - plain).abs().max() > 1e-3
