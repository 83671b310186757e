"""Attaches a LoRA to a model's language model and to its projector.

Both are found from the model's structure. The projector is

- the linear layers outside decoder and image encoder, less the output layer;
- or, if there is a bare matrix instead, the module that owns it, of which a copy is trained in full: a LoRA needs a
  layer;
- or, if there is neither, the linear layers of those parts of the image encoder that are outside its blocks and reach
  the language model's width: its mergers.

All else keeps its weights. Knows no model by name.
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
        bare: modules there that own a matrix and are no layer.
    """

    language: tuple[str, ...]
    projector: tuple[str, ...]
    bare: tuple[str, ...]


def parts_of(model: Any) -> Parts:
    """The modules of a model that can be trained."""
    decoder, encoder = model.get_decoder(), model.get_encoder("image")
    inside, seeing = set(decoder.modules()), set(encoder.modules())
    language = [name for name, module in model.named_modules() if module in inside and isinstance(module, nn.Linear)]
    between = {
        module: name
        for name, module in model.named_modules()
        if module not in inside | seeing and module is not model.get_output_embeddings()
    }
    projector = [name for module, name in between.items() if isinstance(module, nn.Linear)]
    bare = [
        name
        for module, name in between.items()
        if _owns_a_matrix(module) and not inside & set(module.modules()) and not seeing & set(module.modules())
    ]
    if not projector and not bare:
        merging = set(_mergers(encoder, model.config.get_text_config(decoder=True).hidden_size))
        projector = [name for name, module in model.named_modules() if module in merging]
    return Parts(tuple(language), tuple(projector), tuple(bare))


def check_targets(model: Any, lora: Lora) -> None:
    """Check that the target modules are layers of the language model, and what else `LoraConfig` checks.

    Raises:
        UserError: for the first target that is no layer, or an argument that peft refuses.
    """
    lora_config(parts_of(model), lora)


def lora_config(parts: Parts, lora: Lora) -> LoraConfig:
    """The LoRA's arguments, with the modules of this model.

    Raises:
        UserError: for a target that is no layer of the language model, or an argument that peft refuses.
    """
    layers = _matching(parts.language, lora.target_modules)
    try:
        return LoraConfig(
            target_modules=[*layers, *(parts.projector if lora.projector == "lora" else ())],
            modules_to_save=[*_copied(parts, lora.projector), *(lora.modules_to_save or ())] or None,
            **lora.library_arguments(),
        )
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"LoraConfig refuses the values of training.lora: {' '.join(str(error).split())}") from error


def attach_lora(model: Any, lora: Lora, mixed: bool) -> Any:
    """The model with fresh adapters; nothing else of it is trained.

    Args:
        model: the base; it is changed in place, but keeps its own weights.
        lora: rank, layers and the other arguments.
        mixed: whether training computes in bfloat16; trained weights are then held in float32.

    Raises:
        UserError: for arguments that do not fit the model.
    """
    config = lora_config(parts_of(model), lora)
    try:
        adapted = get_peft_model(model, config)
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"peft cannot attach this training.lora: {' '.join(str(error).split())}") from error
    if mixed:  # peft does so for a LoRA's weights, and steps this small would be lost in bfloat16
        _cast(adapted, torch.float32)
    return adapted


def merge_into_eval(adapted: Any) -> None:
    """Cast fully trained copies to the base's dtype, as they are when the adapter is loaded."""
    _cast(adapted, adapted.get_base_model().dtype)


def _matching(layers: tuple[str, ...], patterns: tuple[str, ...] | None) -> list[str]:
    """The layers that a pattern matches, or, as peft has it, whose name ends with it; all if there are no patterns."""
    if patterns is None:
        return list(layers)
    for pattern in patterns:
        if not any(_matches(layer, pattern) for layer in layers):
            raise UserError(f"no linear layer of the language model is called {pattern!r}; one of them is {layers[0]}")
    return [layer for layer in layers if any(_matches(layer, pattern) for pattern in patterns)]


def _matches(layer: str, pattern: str) -> bool:
    return fnmatchcase(layer, pattern) or layer.endswith(f".{pattern}")


def _copied(parts: Parts, projector: str) -> list[str]:
    """The modules of which a copy is trained in full."""
    return {"lora": [*parts.bare], "full": [*parts.projector, *parts.bare], "frozen": []}[projector]


def _owns_a_matrix(module: nn.Module) -> bool:
    """Whether a module owns a matrix itself, and is none of torch's layers."""
    known = type(module).__module__.startswith("torch.nn")
    return not known and any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))


def _mergers(encoder: nn.Module, width: int) -> list[nn.Linear]:
    """The linear layers of the encoder's parts beside its blocks, of those parts that reach the decoder's width."""
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    blocks = max(lists, key=len, default=None)  # several mergers may be a list too, but never the longest
    beside = [part for part in encoder.children() if blocks not in set(part.modules())]
    linear = [[module for module in part.modules() if isinstance(module, nn.Linear)] for part in beside]
    return [
        layer for part in linear if any(linear_layer.out_features == width for linear_layer in part) for layer in part
    ]


def _cast(adapted: Any, dtype: torch.dtype) -> None:
    for module in adapted.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.to(dtype)
