"""Settings for loading a base model in 4 bits and training a LoRA on it (QLoRA, Dettmers et al., 2023).

Only linear layers of the language model are quantized: the image encoder and the projector are small in comparison.
The last matrix keeps its precision, because the fingerprint of the base is computed from it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from sam4mllm.errors import UserError
from sam4mllm.mllm.hf.adapter import last_matrix


def check_four_bits() -> None:
    """Check that this machine can load a model in 4 bits.

    Raises:
        UserError: if bitsandbytes or a GPU is missing.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("4 bits need bitsandbytes: pip install sam4mllm[qlora]")
    if not torch.cuda.is_available():
        raise UserError("4 bits need a GPU, and torch finds no CUDA: remove training.quantize, or set it to null")


def four_bit_config(config: Any, trust_remote_code: bool) -> BitsAndBytesConfig:
    """NF4 with double quantization and bfloat16 arithmetic, for a model with this configuration."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
    decoder = set(model.get_decoder().modules())
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    skipped = [name for name, module in linear.items() if module not in decoder]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[*skipped, last_matrix(model)[0].removesuffix(".weight")],
    )
