"""Attaches a LoRA to a model's language model and to its projector.

Both are found from the model's structure, without model names. The projector is

- the linear layers outside the decoder and the image encoder, except the output layer;
- or, if the projector is a bare matrix, the module that owns it; a LoRA needs a layer, so a copy of the module is
  trained in full;
- or, if there is neither, the image encoder's mergers: all linear layers of each part of the encoder that is outside
  its blocks and outputs the language model's width.

All other weights are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import nn

from sam4mllm.errors import UserError
from sam4mllm.training.config.training import Lora


@dataclass(frozen=True)
class Parts:
    """Names of modules that can be trained.

    Attributes:
        language: the language model's linear layers.
        projector: linear layers between the image encoder's blocks and the language model.
        bare: modules in the same place that own a matrix and are not layers.
    """

    language: tuple[str, ...]
    projector: tuple[str, ...]
    bare: tuple[str, ...]


def parts_of(model: Any) -> Parts:
    """The modules of a model that can be trained."""
    decoder, encoder = model.get_decoder(), model.get_encoder("image")
    inside, vision = set(decoder.modules()), set(encoder.modules())
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    language = [name for name, module in linear.items() if module in inside]
    between = {
        module: name
        for name, module in model.named_modules()
        if module not in inside | vision and module is not model.get_output_embeddings()
    }
    projector = [name for module, name in between.items() if isinstance(module, nn.Linear)]
    bare = [
        name
        for module, name in between.items()
        if _owns_a_matrix(module) and not inside & set(module.modules()) and not vision & set(module.modules())
    ]
    if not projector and not bare:
        merging = set(_mergers(encoder, model.config.get_text_config(decoder=True).hidden_size))
        projector = [name for name, module in linear.items() if module in merging]
    return Parts(tuple(language), tuple(projector), tuple(bare))


def lora_config(model: Any, lora: Lora) -> LoraConfig:
    """The `LoraConfig` for this model's modules.

    Raises:
        UserError: if a target matches no layer of the language model, or peft refuses an argument.
    """
    parts = parts_of(model)
    layers = _matching_layers(parts.language, lora.target_modules)
    full_copies = {"lora": parts.bare, "full": (*parts.projector, *parts.bare), "frozen": ()}[lora.projector]
    try:
        return LoraConfig(
            target_modules=[*layers, *(parts.projector if lora.projector == "lora" else ())],
            modules_to_save=[*full_copies, *(lora.modules_to_save or ())] or None,
            **lora.library_arguments(),
        )
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"LoraConfig refuses the values of training.lora: {' '.join(str(error).split())}") from error


def attach_lora(model: Any, lora: Lora, mixed: bool) -> Any:
    """The model with new adapters; all other weights are frozen.

    Args:
        model: the base; it is changed in place, but its weights keep their values.
        lora: rank, layers and the other arguments.
        mixed: whether training computes in bfloat16; the trained weights are then kept in float32.

    Raises:
        UserError: if the arguments do not fit the model.
    """
    config = lora_config(model, lora)
    try:
        adapted = get_peft_model(model, config)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"peft cannot attach this training.lora: {' '.join(str(error).split())}") from error
    if mixed:  # bfloat16 would round small updates away; peft keeps LoRA weights in float32 itself
        cast_copies(adapted, torch.float32)
    return adapted


def cast_copies(adapted: Any, dtype: torch.dtype) -> None:
    """Cast fully trained copies of modules."""
    for module in adapted.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.to(dtype)


def _matching_layers(layers: tuple[str, ...], patterns: tuple[str, ...] | None) -> list[str]:
    """The layers that match a pattern or, as in peft, end with its name; all layers if ``patterns`` is None."""
    if patterns is None:
        return list(layers)
    for pattern in patterns:
        if not any(_matches(layer, pattern) for layer in layers):
            raise UserError(f"no linear layer of the language model matches {pattern!r}: use names such as {layers[0]}")
    return [layer for layer in layers if any(_matches(layer, pattern) for pattern in patterns)]


def _matches(layer: str, pattern: str) -> bool:
    return fnmatchcase(layer, pattern) or layer.endswith(f".{pattern}")


def _owns_a_matrix(module: nn.Module) -> bool:
    """Whether a module owns a matrix and is not one of torch's layers."""
    from_torch = type(module).__module__.startswith("torch.nn")
    return not from_torch and any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))


def _mergers(encoder: nn.Module, width: int) -> list[nn.Linear]:
    """All linear layers of each encoder part that is outside the blocks and outputs the decoder's width."""
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    blocks = max(lists, key=len, default=None)  # mergers may be a list too, but a shorter one
    other_parts = [part for part in encoder.children() if blocks not in set(part.modules())]
    linear = [[module for module in part.modules() if isinstance(module, nn.Linear)] for part in other_parts]
    return [
        layer for part in linear if any(linear_layer.out_features == width for linear_layer in part) for layer in part
    ]
