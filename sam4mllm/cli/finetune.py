"""`sam4mllm finetune`: a recipe in, an adapter out; or what would be done for it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sam4mllm.cli.terminal import show, standard_output_kept
from sam4mllm.errors import UserError


def finetune(
    recipe: Annotated[
        str, typer.Argument(help="Recipe: a YAML file, or a name that `sam4mllm recipe` lists.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="What differs from it; dots reach inside: training.steps=500."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a stopped run, or fail; without, what is there is gone on with."),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what would be done: rows, tokens, memory; read no weights, write nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
) -> None:
    """Teach an MLLM to say masks in words, with a LoRA; a stopped run goes on."""
    if as_json and not plan:
        raise UserError("--json prints a plan: give --plan beside it")
    if plan and resume:
        raise UserError("--plan tells of a training, and --resume goes on with one: give one of them")
    from sam4mllm.runtime.recipes import recipe_file
    from sam4mllm.runtime.settings import load
    from sam4mllm.training.recipe import FinetuneRecipe
    from sam4mllm.training.run import run

    chosen = load(recipe_file(recipe), FinetuneRecipe, overrides or [])
    if plan:
        from sam4mllm.cli.plan_table import page
        from sam4mllm.training.plan import planned

        with standard_output_kept() as print_line:
            found = planned(chosen)
            if as_json:
                print_line(json.dumps(found.to_json()))
        if not as_json:
            show(page(found))
        return
    typer.echo(f"written to {run(chosen, resume)}")
