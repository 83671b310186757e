"""An adapter on a base model: whether it was made for that base, and how it is laid into it.

The base is known by its fingerprint, which the adapter's card names (see `adapter_card`). Knows nothing of training.
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
from sam4mllm.mllm.adapter_card import CARD, Card

log = logging.getLogger(__name__)

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
VOLATILE = (
    "path",
    "version",
    "dtype",
    "implementation",
    "quantization",
)  # a key that holds one of these tells how it was loaded


def fingerprint(model: Any) -> str:
    """A name for a base model, in 64 hexadecimal digits.

    A hash of its configuration, less what tells of paths, versions and the way of loading; of its parameters' names
    and shapes; and of the last matrix of its decoder, rounded to bfloat16. So it is the same wherever the folder lies,
    and for a model of float32 or bfloat16 weights in whichever of the two it is loaded, or in 4 bits, which leave the
    last matrix as it is (`quantized`); one of float16 weights must not be loaded as bfloat16 or the other way around
    where its numbers are smaller than 6e-5.
    """
    digest = hashlib.sha256(json.dumps(_lasting(model.config.to_dict()), sort_keys=True, default=str).encode())
    for name, shape in sorted(_shapes(model)):
        digest.update(f"{name} {shape}\n".encode())
    digest.update(
        last_matrix(model)[1].detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()
    )
    return digest.hexdigest()


def last_matrix(model: Any) -> tuple[str, torch.Tensor]:
    """The last matrix of a model's decoder, and its name in the model."""
    last = [parameter for parameter in model.get_decoder().parameters() if parameter.dim() == 2][-1]
    return next(name for name, parameter in model.named_parameters() if parameter is last), last


def merged(model: Any, folder: Path) -> tuple[Any, Card]:
    """The model with an adapter's weights added to its own, and the adapter's card.

    Raises:
        UserError: as `adapted` does, and for an adapter without a card or with weights that are no numbers.
    """
    adapter, card = _laid(model, folder)
    if card is None:
        raise UserError(f"the adapter {str(folder)!r} has no {CARD}: it does not say what it was made for")
    try:
        return adapter.merge_and_unload(safe_merge=True), card
    except ValueError as error:
        raise UserError(f"the adapter {str(folder)!r} cannot be merged: {error}") from error


def adapted(model: Any, folder: Path) -> tuple[Any, Card | None]:
    """The model with an adapter's layers inside, and the adapter's card.

    Raises:
        UserError: for a folder without an adapter, and an adapter that was made for another base.
    """
    adapter, card = _laid(model, folder)
    return adapter.get_base_model(), card


def _laid(model: Any, folder: Path) -> tuple[PeftModel, Card | None]:
    """The model in an adapter, and the adapter's card.

    Raises:
        UserError: for a folder without an adapter, and an adapter that was made for another base.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"no adapter at {str(folder)!r}: give a folder with adapter_config.json")
    if not any((folder / name).is_file() for name in WEIGHTS):  # peft would look for them on the hub
        raise UserError(f"the adapter {str(folder)!r} has no weights: {WEIGHTS[0]} is missing")
    card = Card.read(folder)
    if card is None:
        log.warning("The adapter %s has no %s: whether it was made for this base is not known.", folder, CARD)
    elif card.base != fingerprint(model):
        raise UserError(f"the adapter {str(folder)!r} was made for another base than {model.config.model_type} given")
    else:
        card.warn_of_wording(folder)
    try:
        with warnings.catch_warnings():
            # layers that the adapter holds nothing for would be left as they are, with no more than this
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(folder)), card
    except (OSError, RuntimeError, ValueError, SafetensorError, UserWarning) as error:
        raise UserError(f"the adapter {str(folder)!r} does not fit: {str(error).strip().splitlines()[0]}") from error


def _shapes(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The name and the shape of each parameter; a layer's weight may be packed, and its shape is then the layer's."""
    layers = {f"{name}.weight": each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    return [
        (name, (layers[name].out_features, layers[name].in_features) if name in layers else tuple(parameter.shape))
        for name, parameter in model.named_parameters()
    ]


def _lasting(value: Any) -> Any:
    """A configuration without the entries that differ between one loading and the next."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not any(word in str(k) for word in VOLATILE)}
    return [_lasting(item) for item in value] if isinstance(value, list | tuple) else value
