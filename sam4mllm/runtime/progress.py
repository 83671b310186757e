"""Progress bars and warnings on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeAlias

import typer

Progress: TypeAlias = Callable[[int, str], AbstractContextManager[Callable[..., None]]]
"""``progress(total, label)``: a context manager that yields ``advance(n=1)``."""


@contextlib.contextmanager
def progress(total: int, label: str) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, which yields ``advance(n=1)``; no bar for fewer than two steps.

    Args:
        total: number of steps.
        label: text left of the bar.
    """
    if total < 2:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield partial(bar.advance, task)


@contextlib.contextmanager
def byte_progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A download's progress bar on standard error.

    It yields ``update(bytes_done, bytes_total)``; the total may be None.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def warn(warnings: Iterable[str]) -> None:
    """Print each warning as a line on standard error."""
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
