"""Estimates the memory of a training step from tensor shapes, without weights and without computing.

The peak of a step is, in bytes,

    weights + trained + moments + gradients + activations + head

- weights: the base's weights in their own dtypes. A layer packed into 4 bits takes 4.127 bits per weight: NF4 with an
  8-bit constant per 64 weights and a 32-bit constant per 256 of these (QLoRA, Dettmers et al., 2023, section 3).
- trained, gradients, moments: the trained weights, their gradients, and AdamW's two moments, all in the same dtype.
  Without accumulation, gradients grow while activations are freed, so only the larger of the two counts.
- activations: the tensors of the decoder's forward pass that autograd keeps for the backward pass. The decoder with its
  adapters runs on tensors that have shapes but no values (`torch._subclasses.FakeTensorMode`), and each storage that
  autograd saves is counted once. A batch of one row needs no attention mask, unless the model has sliding attention. In
  a batch of several rows some are padded, and each block keeps a mask. The closed form of Korthikanti et al. (2022,
  "Reducing Activation Recomputation", equation 2) covers neither adapters, each of which keeps its input, nor gated
  layers and norms in float32. Gradient checkpointing keeps the inputs of the L blocks, L x tokens x h, and the
  activations of one block at a time (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
- head: TRL computes the logits in tiles, keeps one of them in memory, and sums the gradient of the hidden states in
  float32: min(tokens, 4096) x 32768 + tokens x h x (1 + 4 / size). With checkpointing, the head and a block's
  activations are not in memory at the same time, so only the larger of the two counts.

Not counted: images and the activations of encoder and projector, masks for bidirectional attention between image
tokens, temporaries inside the blocks, the device's libraries, and fragmentation.
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
TOKENS_AT_ONCE, WORDS_AT_ONCE = 4096, 32768  # the size of a tile in TRL's head
# transformers makes no mask for this name; for others it reads values to decide, and fake tensors have no values
UNMASKED = "sdpa_unmasked"
AttentionInterface.register(UNMASKED, sdpa_attention_forward)


@dataclass(frozen=True)
class Memory:
    """The memory of a training step in bytes, by use; the module's docstring defines the terms.

    Attributes:
        weights: the base's weights.
        trained: the adapter's weights; 0 if all weights of the base are trained.
        gradients: the gradients of the trained weights.
        moments: AdamW's moments.
        activations: the activations of the decoder's forward pass.
        passing: the memory used temporarily by the head or by one block, whichever is larger.
        accumulated: whether gradients of earlier micro-batches exist during the forward pass.
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
        """The peak of the step."""
        constant, temporary = self.weights + self.trained + self.moments, self.activations + self.passing
        return constant + (self.gradients + temporary if self.accumulated else max(self.gradients, temporary))


@dataclass(frozen=True)
class Shape:
    """The size of a model and of its trained part.

    Attributes:
        parameters: number of the base's parameters.
        trained: number of trained parameters by group.
        memory: the memory of a training step.
    """

    parameters: int
    trained: Mapping[str, int]
    memory: Memory


def estimate_shape(model: Any, training: Training, tokens: int) -> Shape:
    """The trained parameters of a model, and the memory of a step on rows of ``tokens`` tokens.

    Args:
        model: the base, which may be on the meta device; adapters are attached to it.
        training: batch size and precision; all rows of a batch are assumed to have the same length.
        tokens: tokens per row, including image tokens.

    Raises:
        UserError: if LoRA targets are not layers of the language model.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = _weights(model, training.quantize is not None)
    adapted = attach_lora(model, training.lora, training.bf16) if training.lora else model
    groups = _groups(adapted, model.get_decoder())
    trained = sum(_size(parameter) for group in groups.values() for parameter in group)
    adapted.train()
    activations, passing = _activations(model, training, tokens)
    accumulated = training.gradient_accumulation_steps > 1
    in_adapter = trained if training.lora else 0
    memory = Memory(weights, in_adapter, trained, 2 * trained, activations, passing, accumulated)
    counts = {name: sum(parameter.numel() for parameter in group) for name, group in groups.items()}
    return Shape(parameters, counts, memory)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _weights(model: Any, quantized: bool) -> int:
    """The bytes of the base's weights; ``quantized``: the language model's layers, except the last, are in 4 bits."""
    layers = [model.get_submodule(name).weight for name in parts_of(model).language] if quantized else []
    packed = {id(weight) for weight in layers} - {id(last_matrix(model)[1])}
    return sum(round(item.numel() * PACKED) if id(item) in packed else _size(item) for item in model.parameters())


def _groups(trained: Any, decoder: nn.Module) -> dict[str, list[Tensor]]:
    """The trained parameters by place and kind; those of a LoRA on the language model also by layer name."""
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
    """The bytes that the forward pass keeps, and the additional bytes at the peak."""
    decoder, width = model.get_decoder(), model.config.get_text_config(decoder=True).hidden_size
    dtype, batch = model.get_input_embeddings().weight.dtype, training.per_device_train_batch_size
    rows = batch * tokens
    computing = 2 if training.bf16 else dtype.itemsize
    slides = "sliding_attention" in (decoder.config.to_dict().get("layer_types") or ())
    if batch == 1 and not slides and decoder.config._attn_implementation == "sdpa":
        decoder.config._attn_implementation = UNMASKED
    saved = _saved_bytes(decoder, torch.Size((batch, tokens, width)), dtype, training.bf16)
    head = min(rows, TOKENS_AT_ONCE) * WORDS_AT_ONCE * computing + rows * width * (dtype.itemsize + 4)
    if not training.gradient_checkpointing:
        return saved, head
    blocks = max(len(module) for module in decoder.modules() if isinstance(module, nn.ModuleList))
    return blocks * rows * width * dtype.itemsize, max(head, saved // blocks)


def _saved_bytes(decoder: nn.Module, shape: torch.Size, dtype: torch.dtype, mixed: bool) -> int:
    """The bytes that autograd saves in a forward pass over hidden states of this shape, without the weights."""
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    tensors = [*decoder.named_parameters(), *decoder.named_buffers()]
    with FakeTensorMode():
        weights = {name: torch.empty(t.shape, dtype=t.dtype, requires_grad=t.requires_grad) for name, t in tensors}
        hidden = torch.empty(shape, dtype=dtype, requires_grad=True)
        with (
            torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        ):
            # training rows have a mask; without one, transformers reads values to find packed sequences
            mask = torch.ones(shape[:2], dtype=torch.long)
            inputs = {"inputs_embeds": hidden, "attention_mask": mask, "use_cache": False}
            output = torch.func.functional_call(decoder, weights, kwargs=inputs)
        of_weights = {weight.untyped_storage()._cdata for weight in weights.values()}
        total = sum(size for storage, size in saved.items() if storage not in of_weights)
        del output  # the graph keeps the storages alive until here, so that no storage address is used twice
    return total
