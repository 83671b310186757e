"""The one error that is the user's to mend: a command prints it as one line and exits with 2; no other is caught."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in what was given: its message says in one line what was given and what is allowed."""


def hush() -> None:
    """Shows no more of what libraries say to each other's authors, unless Python was told which warnings to show."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)


@contextmanager
def told() -> Iterator[None]:
    """A command's work: a `UserError` is one line on standard error and exit code 2, an interrupt exit code 130."""
    hush()
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
