"""`sam4mllm eval`: prints the tables of a benchmark; one command per protocol, and the synthetic benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    OUTPUT,
    Draws,
    HardwareOptions,
    ModelOptions,
    PromptingOptions,
    SegmenterOptions,
    WorkerOptions,
    pipeline_config,
    with_options,
)
from sam4mllm.cli.terminal import finish
from sam4mllm.errors import UserError
from sam4mllm.protocols.gres import GRES
from sam4mllm.protocols.methods import METHODS
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.protocols.reasonseg import REASONSEG
from sam4mllm.protocols.res import RES

evaluation = typer.Typer(no_args_is_help=True, help="Print the tables of a benchmark with published scores.")


def _add_protocol_command(protocol: Protocol) -> None:
    @with_options
    def command(
        samples: Annotated[
            Path, typer.Option("--samples", help="Folder with NAME/SPLIT, as `sam4mllm data` writes them.")
        ],
        predictions: Annotated[Path, typer.Option("--predictions", help="Folder with NAME/SPLIT.jsonl.")],
        model: ModelOptions,
        prompting: PromptingOptions,
        segmenter: SegmenterOptions,
        hardware: HardwareOptions,
        workers: WorkerOptions,
        form: Annotated[
            str, typer.Option("--format", help="Format of the table: markdown, latex or json.", rich_help_panel=OUTPUT)
        ] = "markdown",
        name: Annotated[
            str, typer.Option("--name", help="Name of the row of these predictions.", rich_help_panel=OUTPUT)
        ] = "measured here",
        draws: Draws = 2000,
        predict: Annotated[bool, typer.Option("--predict", help="Predict missing splits first.")] = False,
        retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Predict failed samples again.")] = False,
        diagnose: Annotated[
            bool,
            typer.Option(
                "--diagnose",
                help="Also report which stage lost the IoU, with an HTML page per split.",
                rich_help_panel=OUTPUT,
            ),
        ] = False,
    ) -> None:
        from sam4mllm.evaluation.bootstrap import Bootstrap
        from sam4mllm.protocols.diagnosis import diagnose_protocol
        from sam4mllm.protocols.measure import predict_missing
        from sam4mllm.protocols.tables import format_named, protocol_table
        from sam4mllm.runtime.parallel import make_executor

        format_named(form)
        # with --predict, the settings file of the predictions names the segmenter
        redraw_options = replace(segmenter, segmenter="") if predict else segmenter
        redraw = pipeline_config(ModelOptions(), None, redraw_options, HardwareOptions(device=hardware.device))
        if predict:
            config = pipeline_config(model, prompting, segmenter, hardware)
            executor = make_executor(workers.workers, hardware.device, workers.ray)
            predict_missing(protocol, config, samples, predictions, hardware.batch_size, executor, retry_failed)
        else:
            _refuse_model_options(model, prompting, segmenter, hardware, workers, retry_failed, diagnose)
        bootstrap = Bootstrap(draws)
        typer.echo(protocol_table(protocol, samples, predictions, form, name, bootstrap), nl=False)
        if diagnose:
            for text in diagnose_protocol(protocol, samples, predictions, redraw, bootstrap):
                typer.echo(f"\n{text}", nl=False, err=form != "markdown")  # other formats are for programs
        written = " and ".join([*(["predictions"] if predict else []), *(["pages"] if diagnose else [])])
        finish(written and f"{written} are in {predictions}")

    evaluation.command(protocol.name, help=protocol.title)(command)


def _refuse_model_options(
    model: ModelOptions,
    prompting: PromptingOptions,
    segmenter: SegmenterOptions,
    hardware: HardwareOptions,
    workers: WorkerOptions,
    retry_failed: bool,
    diagnose: bool,
) -> None:
    """Refuse options that have no effect without --predict; --diagnose uses the segmenter and the device."""
    device = hardware.device if diagnose else None
    used = segmenter if diagnose else SegmenterOptions()
    idle = (ModelOptions(), PromptingOptions(), used, HardwareOptions(device=device), WorkerOptions(), False)
    if (model, prompting, segmenter, hardware, workers, retry_failed) != idle:
        raise UserError("options of models need --predict: add it, or remove them to score existing predictions")


for _protocol in (RES, GRES, REASONSEG):
    _add_protocol_command(_protocol)


@evaluation.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Option("--out", help="Folder for scenes, predictions and tables.")],
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Number of test scenes.")] = 230,
    way: Annotated[
        list[str] | None,
        typer.Option("--way", help=f"Methods to compare: {', '.join(METHODS)}. Repeatable. Default: all."),
    ] = None,
    ambiguous: Annotated[
        bool,
        typer.Option("--ambiguous", help="Use only expressions with a target that shares its box with another object."),
    ] = False,
    draws: Draws = 2000,
) -> None:
    """RES, GRES and reasoning segmentation on synthetic scenes with the embedded models."""
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.protocols.synthetic import evaluate, methods_named
    from sam4mllm.synthetic.shards import AMBIGUOUS

    home = out / f"shapes-{scenes}{AMBIGUOUS if ambiguous else ''}"
    typer.echo(evaluate(home, scenes, methods_named(way or list(METHODS)), Bootstrap(draws), ambiguous), nl=False)
    finish(f"scenes, predictions and tables are in {home}")
