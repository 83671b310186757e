"""Which parts of a model are trained: a LoRA on its language model, and on what leads from the picture to it.

Both are found from the model's structure. The projector is

- the linear layers outside decoder and image encoder, less the output layer;
- or, where a bare matrix stands there instead, the module that owns it, which is trained fully: a copy of it is, for
  a LoRA needs a layer to be laid into;
- or, where nothing stands there, the linear layers of those parts of the image encoder that lie beside its blocks and
  reach the language model's width: its mergers.

All else keeps its weights. Knows no model by name, and nothing of how training goes.
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

PROJECTOR = ("lora", "full", "frozen")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al., 2022): W + alpha / rank * B A.

    Attributes:
        rank: of B A.
        alpha: its weight is alpha / rank.
        dropout: before A, 0 to less than 1.
        targets: patterns, as a shell's, of the names of the language model's linear layers that get one; all where
            None.
        projector: ``lora`` on its linear layers, a bare matrix fully; ``full``: all its weights; or ``frozen``.

    Raises:
        UserError: for a value that is not allowed.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    projector: str = "lora"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise UserError(
                f"a LoRA has a rank and an alpha of 1 or more and a dropout of 0 to less than 1, got {self.rank}, "
                f"{self.alpha} and {self.dropout}"
            )
        if self.projector not in PROJECTOR:
            raise UserError(f"a LoRA's projector is one of {', '.join(PROJECTOR)}, got {self.projector!r}")
        if self.targets == ():
            raise UserError("a LoRA's targets are patterns of layers' names, or null for all of them; got none")


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
    """What of a model can be trained."""
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
    """See that the targets are layers of the language model.

    Raises:
        UserError: for the first that is none.
    """
    _chosen(parts_of(model).language, lora.targets)


def laid(model: Any, lora: Lora, mixed: bool) -> Any:
    """The model with fresh adapters inside, and nothing else that asks for a gradient.

    Args:
        model: the base; it is changed in place, none of its own weights is.
        lora: which, and how large.
        mixed: whether training computes in bfloat16 by itself; what is trained is then held in float32.

    Raises:
        UserError: for targets that are no layers of the language model.
    """
    parts = parts_of(model)
    layers = _chosen(parts.language, lora.targets)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[*layers, *(parts.projector if lora.projector == "lora" else ())],
        modules_to_save=_whole(parts, lora.projector) or None,
    )
    adapted = get_peft_model(model, config)
    if mixed:  # peft does so for a LoRA's weights, and steps this small would be lost in bfloat16
        _cast(adapted, torch.float32)
    return adapted


def settled(adapted: Any) -> None:
    """Give fully trained copies the base's own dtype, in which they are asked."""
    _cast(adapted, adapted.get_base_model().dtype)


def _chosen(layers: tuple[str, ...], patterns: tuple[str, ...] | None) -> list[str]:
    if patterns is None:
        return list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise UserError(f"no linear layer of the language model is called {pattern!r}; one of them is {layers[0]}")
    return [layer for layer in layers if any(fnmatchcase(layer, pattern) for pattern in patterns)]


def _whole(parts: Parts, projector: str) -> list[str]:
    """The modules that are trained fully."""
    return {"lora": [*parts.bare], "full": [*parts.projector, *parts.bare], "frozen": []}[projector]


def _owns_a_matrix(module: nn.Module) -> bool:
    """Whether a matrix is a module's own, and not that of a layer which torch knows."""
    known = type(module).__module__.startswith("torch.nn")
    return not known and any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))


def _mergers(encoder: nn.Module, width: int) -> list[nn.Linear]:
    """The linear layers of the encoder's parts beside its blocks, of those parts that reach the decoder's width."""
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    blocks = max(lists, key=len, default=None)  # several mergers may be a list too, but never the longest
    beside = [part for part in encoder.children() if blocks not in set(part.modules())]
    linear = [[module for module in part.modules() if isinstance(module, nn.Linear)] for part in beside]
    return [layer for part in linear if any(one.out_features == width for one in part) for layer in part]


def _cast(adapted: Any, dtype: torch.dtype) -> None:
    for module in adapted.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.to(dtype)
