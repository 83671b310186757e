"""One door to the drawers: `Segmenter` embeds a picture once, `Scene` is prompted often. Knows nothing of language.

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
    """A mask of the original image's size, with the segmenter's own guess of its IoU, 0..1."""

    mask: Mask
    score: float


@dataclass(frozen=True, slots=True)
class Takes:
    """What a segmenter can take beside the box."""

    points: bool = True
    negative_points: bool = True


@runtime_checkable
class Scene(Protocol):
    """One embedded picture."""

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        """One mask per prompt, in order, at the original image's size; as if each prompt were alone.

        Raises:
            UserError: for a prompt that the segmenter cannot take (see `Takes`); it is never thinned.
        """
        ...


@runtime_checkable
class Drafts(Protocol):
    """Masks at the decoder's own size, which is smaller than the image as a rule."""

    def approximate_ious(self, rows: Sequence[int], mask: Mask) -> list[float]:
        """The IoU of each of these drafts with a non-empty mask of the image, 0..1, estimated at the decoder's size.

        Good for ranking; much cheaper than enlarging the drafts and counting pixels.
        """
        ...

    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        """These drafts at the size of the image, as `Scene.segment` returns them."""
        ...


@runtime_checkable
class DraftingScene(Scene, Protocol):
    """A scene whose masks can be ranked before they are enlarged, which is most of the work on a large image."""

    def draft(self, prompts: Sequence[Prompt]) -> Drafts:
        """One draft per prompt, in order.

        No draft depends on the other prompts, to the last bit if the machine allows it.

        Raises:
            UserError: as `Scene.segment` does.
        """
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A promptable segmenter."""

    @property
    def takes(self) -> Takes:
        """What it can take; a prompt beyond it is refused."""
        ...

    def embed(self, image: Image) -> Scene:
        """Pay for the picture once."""
        ...


def refuse_beyond(takes: Takes, prompts: Sequence[Prompt], name: str) -> None:
    """Refuse prompts that hold more than ``takes``.

    Raises:
        UserError: naming the segmenter and what it cannot take.
    """
    points = [point for prompt in prompts for point in prompt.points]
    if points and not takes.points:
        raise UserError(f"the segmenter {name} takes boxes only, and was given points")
    if not takes.negative_points and not all(point.positive for point in points):
        raise UserError(f"the segmenter {name} takes no negative points")
