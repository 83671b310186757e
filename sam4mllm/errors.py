"""`UserError`, the error for mistakes that a user can fix; commands print it in one line and exit with code 2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in the user's input. The one-line message gives the invalid value and the valid ones."""


def silence_library_warnings() -> None:
    """Hides the `FutureWarning`s of libraries, unless Python runs with ``-W`` or ``PYTHONWARNINGS``."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Runs a command: prints a `UserError` in one line and exits with code 2; an interrupt exits with code 130."""
    silence_library_warnings()
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
