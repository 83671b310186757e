"""What others published, read from `published.yaml`, each number with where it was read. Knows nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from sam4mllm.protocols.protocol import Protocol

FILE = Path(__file__).parent / "published.yaml"
RECALLED = "rec"
"""The mark of a line from memory, to be checked against the paper: it stays in the file, and nothing prints it."""
MARKS: Mapping[str, str] = MappingProxyType(
    {"2nd": "read in a table that another paper or repository prints, not in the method's own paper"}
)


@dataclass(frozen=True, slots=True)
class Published:
    """One method's line.

    Attributes:
        method: its name.
        mark: a key of `MARKS`.
        read: where the numbers were read.
        numbers: in percent, by the names of part and metric; a number that was not read is not there.
        contested: what speaks against them, as words that follow the name; empty where nothing does.
    """

    method: str
    mark: str
    read: str
    numbers: Mapping[tuple[str, str], float]
    contested: str = ""


def published(protocol: Protocol, file: Path = FILE) -> list[Published]:
    """The lines of a protocol that may be printed, in the file's order.

    Raises:
        ValueError: for a line that does not fit the protocol: it is a mistake in the file.
    """
    lines: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))[protocol.name]
    return [one for one in (_line(protocol, line) for line in lines) if one.mark != RECALLED]


def _line(protocol: Protocol, line: dict[str, Any]) -> Published:
    columns = {name: value for name, value in line.items() if name not in ("method", "mark", "read", "contested")}
    if (
        line["mark"] not in (*MARKS, RECALLED)
        or not line["read"]
        or not columns
        or columns.keys() - set(protocol.metrics)
    ):
        raise ValueError(
            f"a published line has a mark of {', '.join((*MARKS, RECALLED))}, where it was read, and metrics: {line}"
        )
    numbers = {}
    for metric, values in columns.items():
        for part, value in zip(protocol.parts, values, strict=True):
            if value is not None:
                numbers[part.name, metric] = float(value)
    if not all(0 <= value <= 100 for value in numbers.values()):
        raise ValueError(f"published numbers are in percent: {line}")
    return Published(line["method"], line["mark"], line["read"], numbers, line.get("contested", ""))
