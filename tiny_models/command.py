"""The command line of ``python -m tiny_models.X RECIPE [key=value …]``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sam4mllm.errors import UserError, exit_on_user_error
from sam4mllm.runtime.settings import load

T = TypeVar("T")


def command(kind: type[T], do: Callable[[T], None]) -> None:
    """Load the recipe named on the command line and run ``do`` on it; a `UserError` gives one line and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with exit_on_user_error():
        if len(sys.argv) < 2:
            raise UserError("no recipe given: pass a recipe file, then key=value to override its values")
        do(load(Path(sys.argv[1]), kind, sys.argv[2:]))
