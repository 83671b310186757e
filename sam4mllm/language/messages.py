"""What is said in a conversation: a `Turn` of the user or the model, and a `Reply` as it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation about one picture."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said. ``finished`` is false where it was cut at the token limit."""

    text: str
    finished: bool = True
