"""How each MLLM family writes boxes and points: a table of rows, no code per family."""

from __future__ import annotations

from dataclasses import dataclass

from sam4mllm.geometry import Box, Frame, Point


@dataclass(frozen=True, slots=True)
class Dialect:
    name: str
