"""How much memory a training step takes, told from shapes: a model needs no weights for it, and nothing is computed.

The peak of a step is, in bytes,

    weights + trained + moments + gradients + activations + head

- weights: of the base, by the type of each; of a layer packed into 4 bits 4.127 bits a weight: NF4 with a constant of 8
  bits for 64 weights and one of 32 bits for 256 of these (QLoRA, Dettmers et al., 2023, section 3).
- trained, gradients, moments: of what is trained, once for itself, once for its gradient, twice for AdamW's moments,
  all of one type. Without accumulation gradients come while activations go, so the larger of the two counts.
- activations: what autograd keeps of the decoder's forward pass for its backward pass. That is counted, and not told
  from a formula: the decoder with its adapters is run on tensors that have shapes and no values
  (`torch._subclasses.FakeTensorMode`), and every storage that autograd saves is counted once. A row that is alone in
  its batch needs no attention mask, unless attention slides; where several are, some are padded, and each block keeps
  one. The closed form of Korthikanti et al. (2022, "Reducing Activation Recomputation", equation 2) knows neither
  adapters, each of which keeps an input of its own, nor gated layers and norms in float32. With gradient checkpointing
  only what enters each of the L blocks is kept, L x tokens x h, and one block's share at a time (Chen et al., 2016,
  "Training Deep Nets with Sublinear Memory Cost").
- head: TRL scores the tokens against the vocabulary in tiles, of which one is held, and sums the hidden states'
  gradient in float32: min(tokens, 4096) x 32768 + tokens x h x (1 + 4 / size). With checkpointing it and a block's
  share are never there together, so the larger of the two counts.

Not counted: pictures and what encoder and projector hold of them, masks by which a picture's tokens attend both ways,
the blocks' temporaries, what the device's libraries take, and holes between allocations. Knows no recipe and no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sam4mllm.mllm.hf.adapter import last_matrix
from sam4mllm.training.config.training import Training
from sam4mllm.training.lora import attach_lora, parts_of

PACKED = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes of a weight in 4 bits
TOKENS_AT_ONCE, WORDS_AT_ONCE = 4096, 32768  # a tile of TRL's head
# a name that transformers makes no mask for: whether one is needed is a matter of values, which tensors here have not
UNMASKED = "sdpa_unmasked"
AttentionInterface.register(UNMASKED, sdpa_attention_forward)


@dataclass(frozen=True)
class Memory:
    """The bytes of a step, by what takes them; the module says how.

    Attributes:
        weights: of the base.
        trained: of the adapter, or 0 where the base's own weights are trained.
        gradients: of what is trained.
        moments: AdamW's.
        activations: what is kept of the decoder's forward pass, from its beginning to its end.
        passing: what is there beside them at the worst moment: the head's, or one block's.
        accumulated: whether gradients are there when a forward pass begins.
    """

    weights: int
    trained: int
    gradients: int
    moments: int
    activations: int
    passing: int
    accumulated: bool

    @property
    def peak(self) -> int:
        """The most that is there at one time."""
        still, moving = self.weights + self.trained + self.moments, self.activations + self.passing
        return still + (self.gradients + moving if self.accumulated else max(self.gradients, moving))


@dataclass(frozen=True)
class Shape:
    """What of a model is trained, and what it takes.

    Attributes:
        parameters: of the base.
        trained: numbers of parameters, by group.
        memory: of a step.
    """

    parameters: int
    trained: Mapping[str, int]
    memory: Memory


def shape_of(model: Any, training: Training, tokens: int) -> Shape:
    """The trained parameters of a model, and the memory of a step on rows of so many tokens.

    Args:
        model: the base, which may be on the meta device; adapters are attached to it.
        training: its batch and precision; all rows of a batch have the same length.
        tokens: of a row, its image's among them.

    Raises:
        UserError: for LoRA targets that are no layers of the language model.
    """
    base = list(model.parameters())
    parameters, weights = (
        sum(parameter.numel() for parameter in base),
        _weights(model, base, training.quantize is not None),
    )
    trained = attach_lora(model, training.lora, training.bf16) if training.lora else model
    groups = _groups(trained, model.get_decoder())
    new = sum(map(_size, (parameter for group in groups.values() for parameter in group)))
    trained.train()
    activations, passing = _activations(model, training, tokens)
    memory = Memory(
        weights,
        new if training.lora else 0,
        new,
        2 * new,
        activations,
        passing,
        training.gradient_accumulation_steps > 1,
    )
    return Shape(
        parameters, {name: sum(parameter.numel() for parameter in group) for name, group in groups.items()}, memory
    )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _weights(model: Any, parameters: list[Tensor], packed: bool) -> int:
    """The bytes of the base's weights; the language model's layers may be packed, all but the last."""
    if not packed:
        return sum(map(_size, parameters))
    layers = [model.get_submodule(name).weight for name in parts_of(model).language]
    in_four = {id(weight) for weight in layers} - {id(last_matrix(model)[1])}
    return sum(round(weight.numel() * PACKED) if id(weight) in in_four else _size(weight) for weight in parameters)


def _groups(trained: Any, decoder: nn.Module) -> dict[str, list[Tensor]]:
    """The trained parameters by place and kind; a LoRA of the language model by the names of its layers."""
    groups: dict[str, list[Tensor]] = {}
    inside = {id(parameter) for parameter in decoder.parameters()}
    for name, parameter in trained.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_group(name, id(parameter) in inside), []).append(parameter)
    return groups


def _group(name: str, inside: bool) -> str:
    if "modules_to_save" in name:
        return "projector, full copies"
    layer, adapter, _ = name.partition(".lora_")
    if not adapter:
        return "all weights"
    return f"language model, LoRA on {layer.rpartition('.')[2]}" if inside else "projector, LoRA"


def _activations(model: Any, training: Training, tokens: int) -> tuple[int, int]:
    """The bytes that are held from the forward pass, and those that are added at the peak."""
    decoder, width = model.get_decoder(), model.config.get_text_config(decoder=True).hidden_size
    dtype, rows = model.get_input_embeddings().weight.dtype, training.per_device_train_batch_size * tokens
    computing = 2 if training.bf16 else dtype.itemsize
    slides = "sliding_attention" in (decoder.config.to_dict().get("layer_types") or ())
    if training.per_device_train_batch_size == 1 and not slides and decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = UNMASKED
    saved = _saved(decoder, torch.Size((training.per_device_train_batch_size, tokens, width)), dtype, training.bf16)
    head = min(rows, TOKENS_AT_ONCE) * WORDS_AT_ONCE * computing + rows * width * (dtype.itemsize + 4)
    if not training.gradient_checkpointing:
        return saved, head
    blocks = max(len(module) for module in decoder.modules() if isinstance(module, nn.ModuleList))
    return blocks * rows * width * dtype.itemsize, max(head, saved // blocks)


def _saved(decoder: nn.Module, shape: torch.Size, dtype: torch.dtype, mixed: bool) -> int:
    """The bytes that autograd saves of a forward pass over hidden states of this shape, less the weights themselves."""
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    named = [*decoder.named_parameters(), *decoder.named_buffers()]
    with FakeTensorMode():
        weights = {name: torch.empty(t.shape, dtype=t.dtype, requires_grad=t.requires_grad) for name, t in named}
        hidden = torch.empty(shape, dtype=dtype, requires_grad=True)
        with (
            torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        ):
            # as rows are fed; without one transformers looks for several sequences in a row, which it never sees here
            mask = torch.ones(shape[:2], dtype=torch.long)
            inputs = {"inputs_embeds": hidden, "attention_mask": mask, "use_cache": False}
            output = torch.func.functional_call(decoder, weights, kwargs=inputs)
        of_weights = {weight.untyped_storage()._cdata for weight in weights.values()}
        total = sum(size for storage, size in saved.items() if storage not in of_weights)
        del output  # until here the graph holds what was counted, so that no storage's number is used twice
    return total
