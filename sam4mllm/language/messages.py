"""Messages of a conversation: a `Turn` of the user or the model, and the raw `Reply` of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation about one image."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The text that the model generated. ``finished`` is false if it was cut off at the token limit."""

    text: str
    finished: bool = True
