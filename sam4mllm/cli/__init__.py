"""The command line: words in, exit code out. Holds no logic; each command imports what it needs when it runs.

One command, one file; `options` and `terminal` hold what they share. A `UserError` is one line on standard error and
exit code 2, as is a wrong option; an interrupt is 130.
"""

from __future__ import annotations

import typer

from sam4mllm.cli import calibrate, diagnose, finetune, infer, merge, predict, report, score, targets
from sam4mllm.errors import told

app = typer.Typer(
    help="Referring-expression segmentation with any multimodal LLM: a mask is said in words, and drawn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _sam4mllm() -> None:
    """Referring-expression segmentation with any multimodal LLM: a mask is said in words, and drawn."""


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
):
    app.command()(command)


def main() -> None:
    """The console entry."""
    with told():
        app()
