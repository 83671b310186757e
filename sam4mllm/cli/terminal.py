"""Prints plans as tables and what a command did, and keeps standard output free for machine-readable lines."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from sam4mllm.errors import UserError

if TYPE_CHECKING:
    from sam4mllm.cli.plan_table import Section


def finish(summary: str, *next_words: object) -> None:
    """Print to standard error what a command did, and the `sam4mllm` command that usually follows, by its words."""
    if summary:
        typer.echo(summary, err=True)
    if next_words:
        typer.echo(f"next: sam4mllm {shlex.join(map(str, next_words))}", err=True)


def option(name: str, value: object | None) -> tuple[object, ...]:
    """The words of an option for `finish`; none if the user did not set it."""
    return (name, value) if value else ()


def show(sections: Sequence[Section]) -> None:
    """Print a plan to standard output: as tables on a terminal, as plain lines elsewhere."""
    if not sys.stdout.isatty():
        from sam4mllm.cli.plan_table import format_sections

        typer.echo(format_sections(sections), nl=False)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    for section in sections:
        table = Table(
            *section.heads,
            title=section.title,
            caption=section.note,
            show_header=bool(section.heads and section.rows),
            box=box.SIMPLE,
            title_justify="left",
            caption_justify="left",
            title_style="bold",
        )
        for row in section.rows:
            table.add_row(*row)
        console.print(table)


@contextlib.contextmanager
def standard_output_kept() -> Iterator[Callable[[str], None]]:
    """Keep standard output for the lines printed by the given function; other output goes to standard error."""
    standard = sys.stdout

    def print_line(text: str) -> None:
        try:
            standard.write(text + "\n")
            standard.flush()
        except BrokenPipeError:
            raise  # the reader has closed the pipe: typer exits silently
        except OSError as error:
            raise UserError(f"cannot write to standard output: {error.strerror}") from error

    with contextlib.redirect_stdout(sys.stderr):
        yield print_line
