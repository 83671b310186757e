"""`sam4mllm finetune`: trains an adapter by a recipe, or prints the plan of the training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sam4mllm.cli.terminal import finish, option, show, standard_output_kept
from sam4mllm.errors import UserError

if TYPE_CHECKING:
    from sam4mllm.training.config.finetune import FinetuneConfig


def finetune(
    recipe: Annotated[
        str, typer.Argument(help="Recipe: a YAML file, or a name that `sam4mllm recipe` lists.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Values that override the recipe's, with dots for nested keys: training.max_steps=500.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Fail if there is no run to resume. By default one is resumed if found."),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print rows, tokens and memory of the training, without loading weights, and exit."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --plan: print JSON.")] = False,
) -> None:
    """Fine-tune an MLLM with LoRA, through TRL. An interrupted run resumes."""
    if as_json and not plan:
        raise UserError("--json prints a plan: add --plan")
    if plan and resume:
        raise UserError("--plan and --resume exclude each other: remove one of them")
    from sam4mllm.runtime.recipes import recipe_file
    from sam4mllm.runtime.settings import load
    from sam4mllm.training.config.finetune import FinetuneConfig

    config = load(recipe_file(recipe), FinetuneConfig, overrides or [])  # before torch is imported, which takes seconds
    if plan:
        _print_plan(config, as_json)
        return
    from sam4mllm.training.run import run

    adapter = run(config, resume)
    typer.echo(f"written to {adapter}")
    samples, segmenter, images = "SAMPLES", "SEGMENTER", None
    if (validation := config.validation) is not None:
        samples, segmenter, images = validation.samples, validation.segmenter, validation.images
    next_command = ["predict", samples, "--adapter", adapter, "--segmenter", segmenter, *option("--images", images)]
    finish("", *next_command, "--out", adapter / "predictions.jsonl")


def _print_plan(config: FinetuneConfig, as_json: bool) -> None:
    from sam4mllm.cli.plan_table import plan_sections
    from sam4mllm.training.plan import make_plan

    with standard_output_kept() as print_line:
        plan = make_plan(config)
        if as_json:
            print_line(json.dumps(plan.to_json()))
    if not as_json:
        show(plan_sections(plan))
