"""What ``python -m tiny_models.X RECIPE [key=value …]`` has in common. Knows no recipe."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sam4mllm.errors import UserError, told
from sam4mllm.runtime.settings import load

T = TypeVar("T")


def command(kind: type[T], do: Callable[[T], None]) -> None:
    """Load the recipe that the command line names and do it; a user's mistake is one line and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with told():
        if len(sys.argv) < 2:
            raise UserError("give a recipe, and then key=value for what is to be otherwise")
        do(load(Path(sys.argv[1]), kind, sys.argv[2:]))
