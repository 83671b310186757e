"""Prompting strategies: from pictures and phrases to the prompts that a segmenter takes.

A strategy is built with what it needs and called with queries; strategies differ by constructor, never by call. They
know only values, `dialogue` and the `MLLM` door.

    >>> PPG(mllm)([Query(image, "the cat on the left", key="refcoco-val-17-0")])
    [Prompting(prompts=(Prompt(...),), replies=(Reply(...),), readable=True)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from sam4mllm.geometry.prompts import Image, Prompt
from sam4mllm.language.messages import Reply


@dataclass(frozen=True, slots=True)
class Query:
    """One referring expression about one picture; ``key`` is the sample's id, where there is one."""

    image: Image
    phrase: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A point that was asked about: of which object, where (original pixels), and how likely "yes" was, 0..1."""

    object: int
    x: float
    y: float
    yes: float


@dataclass(frozen=True, slots=True)
class Prompting:
    """What a strategy found for one query.

    Attributes:
        prompts: one per object; empty means "nothing there" where ``readable``, and a lost reply where not.
        replies: everything the model said, in order.
        readable: false where a reply was neither places nor "none".
        asked: the points asked about one by one, kept or not.
        timings: seconds by stage, the batch's share of this query.
        oracle: whether the prompts were made from the true masks, and no model was asked.
    """

    prompts: tuple[Prompt, ...]
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    asked: tuple[Asked, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    oracle: bool = False


@runtime_checkable
class Prompter(Protocol):
    """A prompting strategy."""

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, in order; the queries are one batch."""
        ...
