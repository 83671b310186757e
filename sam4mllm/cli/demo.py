"""`sam4mllm demo`: the whole method on the models that ship with the package."""

from __future__ import annotations

from typing import Annotated

import typer

RECIPE = "tiny/demo"


def demo(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="Recipe, tiny/demo by default, and values that differ from it: test_scenes=230 out=out/demo-230.",
        ),
    ] = None,
) -> None:
    """Run the whole method in minutes on a CPU: scenes, targets, LoRA, predictions, tables and a picture."""
    import logging

    from sam4mllm.demo.recipe import Demo
    from sam4mllm.demo.run import run
    from sam4mllm.runtime.recipes import recipe_file
    from sam4mllm.runtime.settings import load

    name, *overrides = words if words and "=" not in words[0] else [RECIPE, *(words or [])]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load(recipe_file(name), Demo, overrides)
    typer.echo(run(recipe), nl=False)
    typer.echo(f"tables: {recipe.out}/table.md, picture: {recipe.out}/sheet.png", err=True)
