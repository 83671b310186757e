"""A protocol: the splits of its datasets, the profile that scores them, and the metrics that its papers report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProtocolColumn:
    """A column of a protocol's table.

    Attributes:
        name: the column's name, as papers print it.
        split: dataset and split, such as ``refcoco/val``; the path of the samples and of the prediction file.
        kind: only samples of this kind, ``phrase`` or ``sentence``; None for all.
    """

    name: str
    split: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark protocol.

    Attributes:
        name: name of its module, and of its rows in `published.yaml`.
        title: what the protocol measures, and the evaluator that it follows.
        profile: a key of `sam4mllm.evaluation.metrics.PROFILES`.
        metrics: names of the metrics that its papers report.
        parts: the columns, in the order of the papers' tables.
    """

    name: str
    title: str
    profile: str
    metrics: tuple[str, ...]
    parts: tuple[ProtocolColumn, ...]

    @property
    def splits(self) -> list[str]:
        """The distinct splits, in order."""
        return list(dict.fromkeys(part.split for part in self.parts))
