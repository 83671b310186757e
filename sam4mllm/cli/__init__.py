"""The command line: one command per file, without logic. A command imports its dependencies when it runs.

`options` and `terminal` have shared code. A `UserError` gives one line on standard error and exit code 2, as does a
wrong option; an interrupt gives exit code 130.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sam4mllm import __version__
from sam4mllm.cli import calibrate, demo, diagnose, finetune, infer, merge, predict, recipe, report, score, targets
from sam4mllm.cli.data import data
from sam4mllm.cli.eval import evaluation
from sam4mllm.errors import exit_on_user_error

app = typer.Typer(
    help="Referring-expression segmentation with any multimodal LLM, by box and points as text.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"sam4mllm {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _sam4mllm(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Referring-expression segmentation with any multimodal LLM, by box and points as text."""


for command in (
    infer.infer,
    predict.predict,
    score.score,
    calibrate.calibrate,
    diagnose.diagnose,
    report.report,
    targets.targets,
    finetune.finetune,
    merge.merge,
    demo.demo,
    recipe.recipe,
):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(evaluation, name="eval")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: used instead of those of the process.
    """
    with exit_on_user_error():
        app(arguments, prog_name="sam4mllm")
