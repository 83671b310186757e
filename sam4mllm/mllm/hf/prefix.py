"""The key-value cache of conversations' beginnings, and the forward pass that goes on from it.

A prefix is never fed itself: each use takes a copy of the rows it needs, so that what was cached once serves every
later question. Positions follow on from those that the decoder was given for the prefix, whatever their scheme: one
axis or three, from zero or from one. Knows nothing of text.
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
class Prefix:
    """Rows of cached tokens, padded on the left to one width.

    Attributes:
        cache: the keys and values of all rows.
        mask: (rows, width) with 0 where a row is padded.
        position: the position of the token that comes next, (rows, 1) or (axes, rows, 1).
        logits: those of the next token, (rows, vocabulary).
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
        """Whether every layer attends to all that was cached: no sliding window, no recurrent state."""
        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def rows(self, index: Sequence[int]) -> Prefix:
        """A copy of some rows, in any order and number."""
        chosen = torch.tensor(index, device=self.mask.device)
        cache = copy.copy(self.cache)
        cache.layers = [_shallow(layer) for layer in self.cache.layers]
        cache.reorder_cache(chosen)
        return Prefix(cache, self.mask[chosen], self.position.index_select(-2, chosen), self.logits[chosen])


def _shallow(layer: Any) -> Any:
    """A layer whose tensors may be replaced without touching the original's (some keep theirs in dictionaries)."""
    twin = copy.copy(layer)
    vars(twin).update({name: dict(value) for name, value in vars(layer).items() if isinstance(value, dict)})
    return twin


def prefill(model: Any, inputs: Mapping[str, Any], drop: int = 0) -> Prefix:
    """Run opened prompts, pictures included, and keep what they leave in the cache.

    Args:
        model: an image-text-to-text model.
        inputs: the processor's output for a batch, padded on the left.
        drop: how many tokens to leave out at every row's end.
    """
    width = inputs["input_ids"].shape[1]
    cut = {
        name: value[:, : width - drop]
        if name.endswith(("_ids", "attention_mask")) and value.shape[1:2] == (width,)
        else value
        for name, value in inputs.items()
    }
    given: dict[str, Any] = {}
    hook = model.get_decoder().register_forward_pre_hook(lambda _, __, kwargs: given.update(kwargs), with_kwargs=True)
    try:
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        out = model(**cut, past_key_values=cache, use_cache=True, logits_to_keep=1)
    finally:
        hook.remove()
    mask = cut["attention_mask"]
    return Prefix(out.past_key_values, mask, _next_position(given.get("position_ids"), mask), out.logits[:, -1])


def _next_position(given: Tensor | None, mask: Int[Tensor, "rows width"]) -> Int[Tensor, "*axes rows 1"]:
    """The position after the last one that the decoder was given; it counts from 0, padding included, if given none."""
    rows, width = mask.shape
    if given is None:
        return mask.new_full((rows, 1), width)
    return given[..., -1:].expand(*given.shape[:-2], rows, 1) + 1


def feed(
    model: Any,
    prefix: Prefix,
    ids: Int[Tensor, "rows new"],
    seen: Int[Tensor, "rows new"] | None = None,
    steps: Int[Tensor, "new"] | None = None,
    attend: Float[Tensor, "rows 1 new all"] | None = None,
    keep: Int[Tensor, "kept"] | None = None,
) -> Float[Tensor, "rows kept vocabulary"]:
    """Feed new tokens to a prefix, which grows by them.

    Args:
        model: the model that the prefix was filled by.
        prefix: changed in place; pass a copy (`Prefix.rows`) to keep the original.
        ids: the new tokens, padded on the right.
        seen: 0 where a new token is padding; none is by default.
        steps: the distance of each new token from the first, where not 0, 1, 2 ...
        attend: an additive attention mask over cached and new tokens, in place of the causal one.
        keep: which of the new tokens' logits to return; the last one's by default.
    """
    new = ids.shape[1]
    steps = torch.arange(new, device=ids.device) if steps is None else steps
    mask = torch.cat([prefix.mask, torch.ones_like(ids) if seen is None else seen], dim=1)
    out = model(
        input_ids=ids,
        attention_mask=mask if attend is None else attend,
        position_ids=prefix.position + steps,
        past_key_values=prefix.cache,
        use_cache=True,
        logits_to_keep=torch.tensor([new - 1], device=ids.device) if keep is None else keep,
    )
    prefix.mask, prefix.position = mask, prefix.position + new
    logits: Tensor = out.logits
    prefix.logits = logits[:, -1]
    return logits.float()


def greedy(model: Any, prefix: Prefix, end_ids: set[int], limit: int) -> list[tuple[list[int], bool]]:
    """The most likely continuation of each row, without the end token, and whether it ended within ``limit`` tokens.

    The prefix is used up: rows that ended are fed on until all have.
    """
    rows = [list[int]() for _ in range(prefix.mask.shape[0])]
    ended = [False] * len(rows)
    for step in range(limit):
        chosen = prefix.logits.argmax(dim=-1)
        for row, token in enumerate(chosen.tolist()):
            ended[row] = ended[row] or token in end_ids
            if not ended[row]:
                rows[row].append(token)
        if all(ended) or step + 1 == limit:
            break
        feed(model, prefix, chosen[:, None])
    return list(zip(rows, ended, strict=True))
