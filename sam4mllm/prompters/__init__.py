"""Prompters: prompting strategies that turn images and phrases into prompts for a segmenter.

The strategies differ in their constructors; every one is called with a list of queries.

    >>> PPG(mllm)([Query(image, "the cat on the left", key="refcoco-val-17-0")])
    [Prompting(prompts=(Prompt(...),), replies=(Reply(...),), readable=True)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from sam4mllm.geometry.prompts import Image, Prompt
from sam4mllm.language.messages import Reply
from sam4mllm.segmenters import Capabilities


@dataclass(frozen=True, slots=True)
class Query:
    """One referring expression and its image. ``key`` is the sample's id, or empty."""

    image: Image
    phrase: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class PointAnswer:
    """The model's answer about one point.

    Attributes:
        object: index of the object in `Prompting.prompts`.
        x: position in pixels of the original image.
        y: position in pixels of the original image.
        yes: probability of "yes", 0..1.
    """

    object: int
    x: float
    y: float
    yes: float


@dataclass(frozen=True, slots=True)
class Prompting:
    """The prompts of one query, and how they were obtained.

    Attributes:
        prompts: one per object. If empty, the model found no object (``readable`` is true) or its reply could not be
            parsed (``readable`` is false).
        replies: the model's raw replies, in order.
        readable: false if a reply held neither a box nor a "none".
        point_answers: the points that the model classified one by one, including those dropped as uncertain.
        timings: seconds per stage; a batch's time is divided evenly among its queries.
        oracle: whether the prompts come from ground truth masks and not from a model.
    """

    prompts: tuple[Prompt, ...]
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    point_answers: tuple[PointAnswer, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    oracle: bool = False


@runtime_checkable
class Prompter(Protocol):
    """A prompting strategy."""

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query, in order. The queries are processed as one batch."""
        ...


@runtime_checkable
class DeclaringPrompter(Prompter, Protocol):
    """A prompter that declares its prompts and its needs, so that models that do not fit are refused beforehand."""

    @property
    def needs_choose(self) -> bool:
        """Whether it calls `Chat.choose`."""
        ...

    @property
    def produces(self) -> Capabilities:
        """The kinds of prompts that it generates."""
        ...
