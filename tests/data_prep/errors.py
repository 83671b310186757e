"""Expects an error that a user sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sam4mllm.errors import UserError


@contextmanager
def one_line_error(message: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """The block raises a `UserError` of one line that matches ``message``, a regular expression."""
    with pytest.raises(UserError, match=message) as caught:
        yield caught
    assert "\n" not in str(caught.value)
