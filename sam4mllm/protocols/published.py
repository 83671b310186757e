"""Published scores of other methods with their sources, read from `published.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sam4mllm.protocols.protocol import Protocol

FILE = Path(__file__).parent / "published.yaml"
RECALLED = "rec"
"""The mark of a line from memory. Such lines are never printed until they are checked against the paper."""
MARKS: Mapping[str, str] = {
    "2nd": "read in a table that another paper or repository prints, not in the method's own paper"
}


@dataclass(frozen=True, slots=True)
class PublishedScores:
    """The published scores of one method.

    Attributes:
        method: name of the method.
        mark: a key of `MARKS`.
        read: the source of the numbers.
        numbers: scores in percent, by the names of part and metric; unknown scores are left out.
        contested: a caveat that is printed after the method's name; empty if there is none.
    """

    method: str
    mark: str
    read: str
    numbers: Mapping[tuple[str, str], float]
    contested: str = ""


def read_published(protocol: Protocol, file: Path = FILE) -> list[PublishedScores]:
    """The lines of a protocol that may be printed, in the order of the file.

    Raises:
        ValueError: if a line does not fit the protocol, which is a mistake in the file.
    """
    entries: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))[protocol.name]
    lines = [_line(protocol, entry) for entry in entries]
    return [line for line in lines if line.mark != RECALLED]


def _line(protocol: Protocol, line: dict[str, Any]) -> PublishedScores:
    columns = {name: value for name, value in line.items() if name not in ("method", "mark", "read", "contested")}
    marks = (*MARKS, RECALLED)
    if line["mark"] not in marks or not line["read"] or not columns or columns.keys() - set(protocol.metrics):
        raise ValueError(f"a published line needs a mark ({', '.join(marks)}), its source and metrics: {line}")
    numbers = {
        (part.name, metric): float(value)
        for metric, values in columns.items()
        for part, value in zip(protocol.parts, values, strict=True)
        if value is not None
    }
    if not all(0 <= value <= 100 for value in numbers.values()):
        raise ValueError(f"published numbers must be in percent, 0..100: {line}")
    return PublishedScores(line["method"], line["mark"], line["read"], numbers, line.get("contested", ""))
