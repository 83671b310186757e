"""`sam4mllm recipe`: lists or prints the recipes that ship with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from sam4mllm.cli.terminal import finish


def recipe(
    name: Annotated[str | None, typer.Argument(help="Recipe to print. Default: list all.")] = None,
) -> None:
    """List the recipes that ship with the package, or print one: `sam4mllm recipe lora > my.yaml`."""
    from sam4mllm.runtime.recipes import recipe_names, shipped_recipe

    if name is None:
        typer.echo("\n".join(recipe_names()))
        finish("", "finetune", "lora", "--plan")
    else:
        typer.echo(shipped_recipe(name).read_text(encoding="utf-8"), nl=False)
