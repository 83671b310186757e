"""Which kind of expression a sample is, in one respect each: pure functions of a sample, by name.

    >>> STRATA["size"].of(sample), STRATA["size"].labels
    ('medium', ('none', 'small', 'medium', 'large'))

The size of several objects is that of their union, and so is their box. Knows nothing of predictions.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError

NONE = "none"


@dataclass(frozen=True, slots=True)
class Stratum:
    """One respect: the label of each sample, and all labels in the order of a table."""

    labels: tuple[str, ...]
    of: Callable[[Sample], str]


def size(sample: Sample) -> str:
    """COCO's small, medium and large: below 32 x 32 pixels, up to 96 x 96, and above."""
    area = sample.truth.area
    return ("small", "medium", "large")[(area >= 32**2) + (area > 96**2)] if area else NONE


def share(sample: Sample) -> str:
    """The part of the picture that is meant, which does not change where pictures are made larger."""
    area = sample.truth.area
    return _label(SHARES, (0.01, 0.05, 0.2), area / (sample.width * sample.height)) if area else NONE


def aspect(sample: Sample) -> str:
    """The box around what is meant: less than half as wide as high, more than twice, or between."""
    box = sample.truth.box
    if box is None:
        return NONE
    return "wide" if box.width > 2 * box.height else "tall" if box.height > 2 * box.width else "even"


def words(sample: Sample) -> str:
    """How many words the phrase has."""
    return _label(WORDS, (3, 6, 11), len(sample.phrase.split()))


def targets(sample: Sample) -> str:
    """How many objects are meant."""
    return TARGETS[min(len(sample.masks), 3)]


def kind(sample: Sample) -> str:
    """ReasonSeg's short and long queries: a noun phrase, or a sentence to reason about."""
    return "long" if sample.kind == "sentence" else "short"


SHARES = ("below 1 %", "1 to 5 %", "5 to 20 %", "20 % and more")
WORDS = ("1 to 2", "3 to 5", "6 to 10", "11 and more")
TARGETS = (NONE, "1", "2", "3 and more")
STRATA: Mapping[str, Stratum] = MappingProxyType(
    {
        "size": Stratum((NONE, "small", "medium", "large"), size),
        "share": Stratum((NONE, *SHARES), share),
        "aspect": Stratum((NONE, "tall", "even", "wide"), aspect),
        "words": Stratum(WORDS, words),
        "targets": Stratum(TARGETS, targets),
        "kind": Stratum(("short", "long"), kind),
    }
)


def stratum_named(name: str) -> Stratum:
    """The stratum of that name.

    Raises:
        UserError: listing the choices.
    """
    if name not in STRATA:
        raise UserError(f"there are no strata by {name!r}: choose from {', '.join(STRATA)}")
    return STRATA[name]


def _label(labels: Sequence[str], edges: Sequence[float], value: float) -> str:
    """The label of a value; one that is an edge belongs above it."""
    return labels[bisect(edges, value)]
