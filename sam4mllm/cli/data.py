"""What the readers' command lines share: their options, and how a mistake ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.reading import Reading
from sam4mllm.errors import UserError, told

Root: TypeAlias = Annotated[Path, typer.Option(help="The folder that holds the raw files.")]
Out: TypeAlias = Annotated[Path, typer.Option(help="Where the splits' folders and the report go.")]
Images: TypeAlias = Annotated[Path | None, typer.Option(help="The folder of the pictures, if not below root.")]
Partial: TypeAlias = Annotated[bool, typer.Option("--partial", help="Counts may differ from the official ones.")]
KeepLeaks: TypeAlias = Annotated[
    bool, typer.Option("--keep-leaks", help="Learn also from pictures that a val or test split measures on.")
]


def need_root(root: Path) -> None:
    """Make sure that the folder of the raw files is there.

    Raises:
        UserError: where it is not.
    """
    if not root.is_dir():
        raise UserError(f"no such folder: {root}, where the raw files are due (--root)")


def run(prepare: Callable[[], Reading], root: Path, out: Path, partial: bool, keep_leaks: bool) -> None:
    """Read a set and convert it; a user's mistake is one line and exit code 2."""
    with told():
        need_root(root)
        convert(prepare(), root, out, partial, keep_leaks, typer.echo)
