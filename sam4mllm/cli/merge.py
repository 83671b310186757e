"""`sam4mllm merge`: an adapter in, a model of its own out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import Dtype, TrustRemoteCode


def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of an adapter.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the merged model; must be new.")],
    mllm: Annotated[str, typer.Option("--mllm", help="Its base, where the adapter's card does not find it.")] = "",
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Add an adapter's weights to its base's, and write the model that this makes."""
    from sam4mllm.training.merge import merge as merged

    typer.echo(f"written to {merged(adapter, out, mllm=mllm, dtype=dtype, trust_remote_code=trust_remote_code)}")
