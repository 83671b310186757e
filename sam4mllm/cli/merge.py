"""`sam4mllm merge`: merges an adapter into a standalone model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import HARDWARE, MODEL, OUTPUT
from sam4mllm.cli.terminal import finish


def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the merged model; must not exist.", rich_help_panel=OUTPUT)
    ],
    mllm: Annotated[
        str, typer.Option("--mllm", help="Base model. Default: the one in the adapter's card.", rich_help_panel=MODEL)
    ] = "",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="Dtype of the weights, as torch names it; auto: the checkpoint's dtype.",
            rich_help_panel=HARDWARE,
        ),
    ] = "auto",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run Python code that comes with the MLLM.", rich_help_panel=MODEL),
    ] = False,
) -> None:
    """Merge an adapter into its base model."""
    from sam4mllm.training.merge import merge as merged

    typer.echo(f"written to {merged(adapter, out, mllm=mllm, dtype=dtype, trust_remote_code=trust_remote_code)}")
    finish("", "infer", "IMAGE", "--phrase", "PHRASE", "--mllm", out, "--segmenter", "SEGMENTER", "--out", "out")
