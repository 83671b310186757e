"""Named ways to split samples into subsets; each assigns one label to a sample.

    >>> SUBSETS["size"].label_of(sample), SUBSETS["size"].labels
    ('medium', ('none', 'small', 'medium', 'large'))

For several objects, size and box are those of their union.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError

NONE = "none"


@dataclass(frozen=True, slots=True)
class Subsets:
    """One way to split samples.

    Attributes:
        labels: all labels, in the order of a table.
        label_of: returns the label of a sample.
    """

    labels: tuple[str, ...]
    label_of: Callable[[Sample], str]


def size(sample: Sample) -> str:
    """COCO's size classes: small below 32 x 32 pixels, medium up to 96 x 96, and large; ``none`` without a target."""
    area = sample.ground_truth.area
    return ("small", "medium", "large")[(area >= 32**2) + (area > 96**2)] if area else NONE


def share(sample: Sample) -> str:
    """The share of the image that the targets cover, which is independent of the image's resolution."""
    area = sample.ground_truth.area
    return _label(SHARES, (0.01, 0.05, 0.2), area / (sample.width * sample.height)) if area else NONE


def aspect(sample: Sample) -> str:
    """The shape of the box around all targets: wide (width > 2 height), tall (height > 2 width) or even."""
    box = sample.ground_truth.box
    if box is None:
        return NONE
    return "wide" if box.width > 2 * box.height else "tall" if box.height > 2 * box.width else "even"


def phrase_length(sample: Sample) -> str:
    """The number of words in the phrase."""
    return _label(WORDS, (3, 6, 11), len(sample.phrase.split()))


def targets(sample: Sample) -> str:
    """The number of target objects."""
    return TARGETS[min(len(sample.masks), 3)]


def kind(sample: Sample) -> str:
    """ReasonSeg's query types: short for a noun phrase, long for a sentence that needs reasoning."""
    return "long" if sample.kind == "sentence" else "short"


SHARES = ("below 1 %", "1 to 5 %", "5 to 20 %", "20 % and more")
WORDS = ("1 to 2", "3 to 5", "6 to 10", "11 and more")
TARGETS = (NONE, "1", "2", "3 and more")
SUBSETS: Mapping[str, Subsets] = {
    "size": Subsets((NONE, "small", "medium", "large"), size),
    "share": Subsets((NONE, *SHARES), share),
    "aspect": Subsets((NONE, "tall", "even", "wide"), aspect),
    "words": Subsets(WORDS, phrase_length),
    "targets": Subsets(TARGETS, targets),
    "kind": Subsets(("short", "long"), kind),
}


def subsets_named(name: str) -> Subsets:
    """The subsets with this name.

    Raises:
        UserError: if the name is unknown; lists the choices.
    """
    if name not in SUBSETS:
        raise UserError(f"unknown subsets {name!r}: choose from {', '.join(SUBSETS)}")
    return SUBSETS[name]


def _label(labels: Sequence[str], edges: Sequence[float], value: float) -> str:
    """The label of a value; a value equal to an edge belongs to the higher label."""
    return labels[bisect(edges, value)]
