"""Loading in 4 bits: what it needs, and which layers are packed; no GPU is asked for."""

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
def test_what_is_missing_is_named_before_a_model_is_read(spec, says, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=says):
        HfMLLM.load("nowhere/nothing", four_bits=True, device="cpu")


def test_where_both_are_there_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: importlib.machinery.ModuleSpec("bitsandbytes", None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_four_bits()


@pytest.mark.parametrize("family", FAMILIES)
def test_only_layers_of_the_language_model_are_packed_and_its_last_matrix_is_not(family, folder_of):
    config = four_bit_config(AutoConfig.from_pretrained(folder_of(family)), False)
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    model, _ = FAMILIES[family]()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    decoder = set(model.get_decoder().modules())
    packed = set(linear) - set(config.llm_int8_skip_modules)
    assert packed
    assert all(linear[name] in decoder for name in packed)
    [left] = [name for name, module in linear.items() if module in decoder and name not in packed]
    last = [parameter for parameter in model.get_decoder().parameters() if parameter.dim() == 2][-1]
    assert linear[left].weight is last
