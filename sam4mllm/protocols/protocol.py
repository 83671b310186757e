"""What a protocol is: parts of data sets, the profile that counts them, and the numbers that its papers print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A column of a protocol's table.

    Attributes:
        name: as papers print it.
        place: the set and the split, which name the folder of samples and the file of predictions.
        kind: of the samples that are part of it, ``phrase`` or ``sentence``; all where None.
    """

    name: str
    place: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark of the field.

    Attributes:
        name: of its file here, and of its rows in `published.yaml`.
        title: what it is, and whose evaluation counts it.
        profile: a key of `sam4mllm.evaluation.metrics.PROFILES`.
        metrics: the numbers that its papers print.
        parts: in the order of their tables.
    """

    name: str
    title: str
    profile: str
    metrics: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def places(self) -> list[str]:
        """Every set and split once, in order."""
        return list(dict.fromkeys(part.place for part in self.parts))
