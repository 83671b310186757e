"""`sam4mllm finetune`: a recipe in, an adapter out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def finetune(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as in recipes/.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="What differs from it; dots reach inside: training.steps=500."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a stopped run, or fail; without, what is there is gone on with."),
    ] = False,
) -> None:
    """Teach an MLLM to say masks in words, with a LoRA; a stopped run goes on."""
    from sam4mllm.learning import FinetuneRecipe, run
    from sam4mllm.settings import load

    typer.echo(f"written to {run(load(recipe, FinetuneRecipe, overrides or []), resume)}")
