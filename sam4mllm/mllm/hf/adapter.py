"""Loads an adapter into its base model, after checking that the adapter was trained on that base.

The adapter's card (see `adapter_card`) names the base by its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn

from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import CARD, AdapterCard

log = logging.getLogger(__name__)

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# configuration keys that contain one of these depend on how the model was loaded
LOAD_KEY_PARTS = ("path", "version", "dtype", "implementation", "quantization")


def base_fingerprint(model: Any) -> str:
    """An identifier of a base model: 64 hexadecimal digits.

    It hashes three things: the configuration, except its paths, versions and loading options; the names and shapes of
    the parameters; and the decoder's last matrix, rounded to bfloat16. So it does not depend on the folder. Loading
    float32 or bfloat16 weights as float32, bfloat16 or 4-bit does not change the identifier, because the last matrix is
    never quantized (`quantized`). Loading float16 weights as bfloat16, or the reverse, may change it if there are
    values below 6e-5.
    """
    digest = hashlib.sha256(
        json.dumps(_without_load_settings(model.config.to_dict()), sort_keys=True, default=str).encode()
    )
    for name, shape in sorted(_shapes(model)):
        digest.update(f"{name} {shape}\n".encode())
    digest.update(
        last_matrix(model)[1].detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()
    )
    return digest.hexdigest()


def last_matrix(model: Any) -> tuple[str, torch.Tensor]:
    """The name and the values of the last matrix of a model's decoder."""
    last = [parameter for parameter in model.get_decoder().parameters() if parameter.dim() == 2][-1]
    return next(name for name, parameter in model.named_parameters() if parameter is last), last


def merge_adapter(model: Any, folder: Path) -> tuple[Any, AdapterCard]:
    """Merge an adapter into a model's weights, in place; return the model and the adapter's card.

    Raises:
        UserError: as `insert_adapter` does; also if the adapter has no card or its weights are NaN or Inf.
    """
    adapter, card = _load_adapter(model, folder)
    if card is None:
        raise UserError(f"the adapter {str(folder)!r} has no {CARD}: its base model is unknown")
    try:
        return adapter.merge_and_unload(safe_merge=True), card
    except ValueError as error:
        raise UserError(f"the adapter {str(folder)!r} cannot be merged: {error}") from error


def insert_adapter(model: Any, folder: Path) -> tuple[Any, AdapterCard | None]:
    """Insert an adapter's layers into a model, in place; return the model and the adapter's card or None.

    Raises:
        UserError: if the folder holds no adapter, or the adapter was trained on another base.
    """
    adapter, card = _load_adapter(model, folder)
    return adapter.get_base_model(), card


def _load_adapter(model: Any, folder: Path) -> tuple[PeftModel, AdapterCard | None]:
    """The peft model of a base and an adapter, and the adapter's card or None.

    Raises:
        UserError: if the folder holds no adapter, or the adapter was trained on another base.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"no adapter at {str(folder)!r}: give a folder with adapter_config.json")
    if not any((folder / name).is_file() for name in WEIGHTS):  # peft would search the hub for them
        raise UserError(f"the adapter {str(folder)!r} has no weights: {WEIGHTS[0]} is missing")
    card = AdapterCard.read(folder)
    if card is None:
        log.warning("The adapter %s has no %s: cannot check that it was trained on this base.", folder, CARD)
    elif card.base != base_fingerprint(model):
        raise UserError(
            f"the adapter {str(folder)!r} was trained on a different base model (loaded: {model.config.model_type})"
        )
    else:
        card.warn_if_wording_differs(folder)
    try:
        with warnings.catch_warnings():
            # peft only warns about layers that have no adapter weights, and leaves those layers untrained
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(folder)), card
    except (OSError, RuntimeError, ValueError, SafetensorError, UserWarning) as error:
        raise UserError(
            f"the adapter {str(folder)!r} does not fit the base model: {str(error).strip().splitlines()[0]}"
        ) from error


def _shapes(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The name and shape of each parameter. A quantized weight gets the shape of its layer."""
    layers = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return [
        (name, (layers[name].out_features, layers[name].in_features) if name in layers else tuple(parameter.shape))
        for name, parameter in model.named_parameters()
    ]


def _without_load_settings(value: Any) -> Any:
    """A configuration without the entries that depend on how the model was loaded."""
    if isinstance(value, dict):
        return {
            key: _without_load_settings(v)
            for key, v in value.items()
            if not any(part in str(key) for part in LOAD_KEY_PARTS)
        }
    return [_without_load_settings(item) for item in value] if isinstance(value, list | tuple) else value
