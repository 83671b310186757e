"""`sam4mllm demo`: runs the complete method on the embedded models."""

from __future__ import annotations

from typing import Annotated

import typer

from sam4mllm.cli.terminal import finish

RECIPE = "tiny/demo"


def demo(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="Recipe, then values that override it: test_scenes=230 out=out/demo-230. Default: tiny/demo.",
        ),
    ] = None,
) -> None:
    """Run the complete method in minutes on a CPU: scenes, targets, LoRA, predictions, tables and a contact sheet."""
    import logging

    from sam4mllm.demo.recipe import Demo
    from sam4mllm.demo.run import run
    from sam4mllm.runtime.recipes import recipe_file
    from sam4mllm.runtime.settings import load

    name, *overrides = recipe if recipe and "=" not in recipe[0] else [RECIPE, *(recipe or [])]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = load(recipe_file(name), Demo, overrides)
    typer.echo(run(config), nl=False)
    finish(f"the tables are in {config.out}/table.md, the contact sheet is in {config.out}/sheet.png")
