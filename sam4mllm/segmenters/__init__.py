"""The `Segmenter` and `Scene` protocols: a segmenter embeds an image once, and the scene takes any number of prompts.

Backends: `box` (the fake), `grabcut` (OpenCV, no weights), `sam` (segment_anything), `hf` (transformers).

    >>> scene = segmenter.embed(image)
    >>> scene.segment([Prompt(Box(12, 7, 90, 64), (Point(40.5, 30.5),))])
    [ScoredMask(mask=array([[False, ...]]), score=0.93)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Mask, Prompt


@dataclass(frozen=True, slots=True)
class ScoredMask:
    """A mask at the size of the original image, with the IoU that the segmenter predicts for it, 0..1."""

    mask: Mask
    score: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The prompts that a segmenter supports, or a prompter generates, in addition to a box."""

    points: bool = True
    negative_points: bool = True
    points_without_box: bool = False

    def unsupported(self, prompts: Capabilities) -> str:
        """The kind of prompts that is not supported, for messages; empty if all are."""
        if prompts.points and not self.points:
            return "points"
        if prompts.negative_points and not self.negative_points:
            return "negative points"
        return "points without a box" if prompts.points_without_box and not self.points_without_box else ""


@runtime_checkable
class Scene(Protocol):
    """An embedded image."""

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt, in order, at the size of the original image. Prompts do not affect each other.

        Raises:
            UserError: if the segmenter does not support a prompt (see `Capabilities`). Points are never
                dropped silently.
        """
        ...


@runtime_checkable
class Drafts(Protocol):
    """Masks at the decoder's own size, which is usually smaller than the image."""

    def approximate_ious(self, rows: Sequence[int], mask: Mask) -> list[float]:
        """The IoU of each of these drafts with a non-empty mask of the image, 0..1, estimated at the decoder's size.

        Use it for ranking: it is much cheaper than enlarging the drafts and counting pixels.
        """
        ...

    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        """These drafts at the size of the image, as `Scene.segment` returns them."""
        ...


@runtime_checkable
class DraftingScene(Scene, Protocol):
    """A scene that can rank masks before they are enlarged. Enlarging is most of the work on a large image."""

    def draft(self, prompts: Sequence[Prompt]) -> Drafts:
        """One draft per prompt, in order.

        A draft does not depend on the other prompts; it is the same to the last bit if the hardware allows it.

        Raises:
            UserError: as `Scene.segment` does.
        """
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A promptable segmenter."""

    @property
    def capabilities(self) -> Capabilities:
        """The prompts that it supports; others are refused."""
        ...

    def embed(self, image: Image) -> Scene:
        """Embed an image, once for all prompts."""
        ...


def check_supported(capabilities: Capabilities, prompts: Sequence[Prompt], name: str) -> None:
    """Check that a segmenter supports these prompts.

    Raises:
        UserError: if not; the message names the segmenter and what it does not support.
    """
    points = [point for prompt in prompts for point in prompt.points]
    has_negative = not all(point.positive for point in points)
    lacks_box = any(prompt.box is None for prompt in prompts)
    unsupported = capabilities.unsupported(Capabilities(bool(points), has_negative, lacks_box))
    if unsupported:
        remedy = "add a box" if unsupported.endswith("without a box") else "remove them"
        raise UserError(f"the segmenter {name} takes no {unsupported}: {remedy}")
