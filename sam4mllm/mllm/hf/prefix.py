"""The KV cache of the start of conversations, and the forward pass that continues from it.

A prefix is never extended directly: each use copies the rows it needs, so that one cached prefix serves every later
question. Positions continue from those the decoder received for the prefix. They may have one axis or three, and
may start at zero or one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass
class CachedPrefix:
    """Cached rows of tokens, padded on the left to one width.

    Attributes:
        cache: the keys and values of all rows.
        mask: (rows, width), 0 for padding.
        position: the position of the next token, (rows, 1) or (axes, rows, 1).
        logits: the logits of the next token, (rows, vocabulary).
    """

    cache: Cache
    mask: Int[Tensor, "rows width"]
    position: Int[Tensor, "*axes rows 1"]
    logits: Float[Tensor, "rows vocabulary"]

    @property
    def width(self) -> int:
        return self.mask.shape[1]

    @property
    def full_attention(self) -> bool:
        """Whether every layer attends to all cached tokens: no sliding window and no recurrent state."""
        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def rows(self, index: Sequence[int]) -> CachedPrefix:
        """A copy of the given rows, in any order and with repetitions."""
        chosen = torch.tensor(index, device=self.mask.device)
        cache = copy.copy(self.cache)
        cache.layers = [_copy_layer(layer) for layer in self.cache.layers]
        cache.reorder_cache(chosen)
        return CachedPrefix(cache, self.mask[chosen], self.position.index_select(-2, chosen), self.logits[chosen])


def _copy_layer(layer: Any) -> Any:
    """A copy of a layer whose tensors can be replaced without changing the original."""
    copied = copy.copy(layer)
    # some layers keep their tensors in dictionaries
    vars(copied).update({name: dict(value) for name, value in vars(layer).items() if isinstance(value, dict)})
    return copied


def prefill(model: Any, inputs: Mapping[str, Any], drop: int = 0) -> CachedPrefix:
    """Run opened prompts with their images through the model and cache their keys and values.

    Args:
        model: an image-text-to-text model.
        inputs: the processor's output for a batch, padded on the left.
        drop: how many tokens to drop at the end of every row.
    """
    width = inputs["input_ids"].shape[1]
    shortened = {
        name: value[:, : width - drop]
        if name.endswith(("_ids", "attention_mask")) and value.shape[1:2] == (width,)
        else value
        for name, value in inputs.items()
    }
    decoder_arguments: dict[str, Any] = {}
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _, __, kwargs: decoder_arguments.update(kwargs), with_kwargs=True
    )
    try:
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        output = model(**shortened, past_key_values=cache, use_cache=True, logits_to_keep=1)
    finally:
        hook.remove()
    mask = shortened["attention_mask"]
    return CachedPrefix(
        output.past_key_values, mask, _next_position(decoder_arguments.get("position_ids"), mask), output.logits[:, -1]
    )


def _next_position(positions: Tensor | None, mask: Int[Tensor, "rows width"]) -> Int[Tensor, "*axes rows 1"]:
    """The position that follows the last one the decoder received.

    If the decoder received no positions, tokens are counted from 0, including padding.
    """
    rows, width = mask.shape
    if positions is None:
        return mask.new_full((rows, 1), width)
    return positions[..., -1:].expand(*positions.shape[:-2], rows, 1) + 1


def feed(
    model: Any,
    prefix: CachedPrefix,
    ids: Int[Tensor, "rows new"],
    seen: Int[Tensor, "rows new"] | None = None,
    steps: Int[Tensor, "new"] | None = None,
    attend: Float[Tensor, "rows 1 new all"] | None = None,
    keep: Int[Tensor, "kept"] | None = None,
) -> Float[Tensor, "rows kept vocabulary"]:
    """Feed new tokens after a prefix and return their logits. The prefix grows by these tokens.

    Args:
        model: the model that filled the prefix.
        prefix: changed in place; pass a copy (`Prefix.rows`) to keep the original.
        ids: the new tokens, padded on the right.
        seen: 0 for padding among the new tokens; by default there is none.
        steps: the distance of each new token from the first; 0, 1, 2 ... by default.
        attend: an additive attention mask over cached and new tokens, instead of the causal one.
        keep: the new tokens whose logits are returned; the last one by default.
    """
    new = ids.shape[1]
    steps = torch.arange(new, device=ids.device) if steps is None else steps
    mask = torch.cat([prefix.mask, torch.ones_like(ids) if seen is None else seen], dim=1)
    output = model(
        input_ids=ids,
        attention_mask=mask if attend is None else attend,
        position_ids=prefix.position + steps,
        past_key_values=prefix.cache,
        use_cache=True,
        logits_to_keep=torch.tensor([new - 1], device=ids.device) if keep is None else keep,
    )
    prefix.mask, prefix.position = mask, prefix.position + new
    logits: Tensor = output.logits
    prefix.logits = logits[:, -1]
    return logits.float()


def greedy(model: Any, prefix: CachedPrefix, end_ids: set[int], limit: int) -> list[tuple[list[int], bool]]:
    """The greedy continuation of each row without its end token, and whether it ended within ``limit`` tokens.

    The prefix cannot be used afterwards: finished rows are fed until all rows have finished.
    """
    rows = [list[int]() for _ in range(prefix.mask.shape[0])]
    finished = [False] * len(rows)
    for step in range(limit):
        next_tokens = prefix.logits.argmax(dim=-1)
        for row, token in enumerate(next_tokens.tolist()):
            finished[row] = finished[row] or token in end_ids
            if not finished[row]:
                rows[row].append(token)
        if all(finished) or step + 1 == limit:
            break
        feed(model, prefix, next_tokens[:, None])
    return list(zip(rows, finished, strict=True))
