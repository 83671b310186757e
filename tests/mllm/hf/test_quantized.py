"""Loading in 4 bits: its requirements and the quantized layers; the tests need no GPU."""

import importlib.machinery

import pytest
import torch
from transformers import AutoConfig

from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.quantized import check_four_bits, four_bit_config
from tests.families import FAMILIES


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param(None, r"pip install sam4mllm\[qlora\]", id="no bitsandbytes"),
        pytest.param(importlib.machinery.ModuleSpec("bitsandbytes", None), "torch finds no CUDA", id="no GPU"),
    ],
)
def test_missing_requirements_are_reported_before_a_model_is_loaded(spec, says, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=says):
        HfMLLM.load("nowhere/nothing", four_bits=True, device="cpu")


def test_four_bits_are_accepted_with_bitsandbytes_and_a_gpu(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: importlib.machinery.ModuleSpec("bitsandbytes", None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_four_bits()


@pytest.mark.parametrize("family", FAMILIES)
def test_only_language_model_layers_are_quantized_except_the_last_matrix(family, folder_of):
    config = four_bit_config(AutoConfig.from_pretrained(folder_of(family)), False)
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    model, _ = FAMILIES[family]()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    decoder = set(model.get_decoder().modules())
    quantized = set(linear) - set(config.llm_int8_skip_modules)
    assert quantized
    assert all(linear[name] in decoder for name in quantized)
    [unquantized] = [name for name, module in linear.items() if module in decoder and name not in quantized]
    last = [parameter for parameter in model.get_decoder().parameters() if parameter.dim() == 2][-1]
    assert linear[unquantized].weight is last
