"""The command of every protocol: predicts what is missing, measures, prints the table, and says where IoU was lost.

Predicting and diagnosing are done where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.protocols.diagnosis import diagnosed
from sam4mllm.protocols.protocol import Protocol, measured, predictions_at, samples_at
from sam4mllm.protocols.published import published
from sam4mllm.protocols.tables import format_named
from sam4mllm.runtime.files import check_folder
from sam4mllm.runtime.specs import ORACLE
from sam4mllm.cli.options import (
    Adapter,
    Ask,
    Attention,
    BatchSize,
    Budget,
    DeviceMap,
    Devices,
    Dialect,
    Dtype,
    Layout,
    Mllm,
    Negative,
    OnRay,
    Points,
    Positive,
    Prompter,
    RetryFailed,
    Seed,
    Segmenter,
    SingleMask,
    SureNo,
    SureYes,
    TrustRemoteCode,
    Workers,
    recipe_of,
)
from sam4mllm.cli.terminal import progress
from sam4mllm.runtime.parallel import Engine, Here, engine
from sam4mllm.errors import UserError, told
from sam4mllm.prediction.run import FAILED, predict_set
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.config import Recipe
from sam4mllm.data.samples import read_samples

BATCH = 4


def main(protocol: Protocol) -> None:
    """The command line of a protocol's module; a `UserError` is one line and exit code 2."""

    def command(
        samples: Annotated[Path, typer.Option("--samples", help="Root of the sets: NAME/SPLIT, as data_prep leaves.")],
        predictions: Annotated[Path, typer.Option("--predictions", help="Root of NAME/SPLIT.jsonl.")],
        shown: Annotated[str, typer.Option("--format", help="markdown, latex or json.")] = "markdown",
        name: Annotated[str, typer.Option("--name", help="Of our line in the table.")] = "measured here",
        draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap.")] = 2000,
        predict: Annotated[bool, typer.Option("--predict", help="First predict what is missing.")] = False,
        diagnose: Annotated[
            bool, typer.Option("--diagnose", help="Then say which stage lost the IoU, and leave a page of each split.")
        ] = False,
        mllm: Mllm = "",
        adapter: Adapter = None,
        dialect: Dialect = None,
        prompter: Prompter = "ppg",
        positive: Positive = None,
        negative: Negative = None,
        layout: Layout = None,
        points: Points = None,
        budget: Budget = None,
        sure_yes: SureYes = None,
        sure_no: SureNo = None,
        ask: Ask = None,
        seed: Seed = None,
        segmenter: Segmenter = "",
        single_mask: SingleMask = False,
        batch_size: BatchSize = BATCH,
        workers: Workers = 1,
        ray: OnRay = None,
        retry_failed: RetryFailed = False,
        device: Devices = None,
        dtype: Dtype = "auto",
        device_map: DeviceMap = None,
        attention: Attention = None,
        trust_remote_code: TrustRemoteCode = False,
    ) -> None:
        recipe = recipe_of(locals())
        # what is predicted here has its note beside it, which says more
        drawer = Recipe(segmenter="" if predict else segmenter, single_mask=single_mask, device=device)
        format_named(shown)
        if predict:
            predict_missing(
                protocol, recipe, samples, predictions, batch_size, engine(workers, device, ray), retry_failed
            )
        elif recipe != (drawer if diagnose else Recipe()) or workers != 1 or ray or retry_failed or batch_size != BATCH:
            raise UserError("models are for --predict: without it, predictions are only scored")
        tell(protocol, samples, predictions, shown, name, Bootstrap(draws), drawer if diagnose else None)

    command.__doc__ = protocol.title
    run(command)


def run(command: Callable[..., None]) -> None:
    """A function as a command line; a `UserError` is one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    with told():
        app()


def tell(
    protocol: Protocol,
    samples: Path,
    predictions: Path,
    shown: str,
    name: str,
    bootstrap: Bootstrap,
    drawer: Recipe | None,
) -> None:
    """Print the table of what was measured, by the name of our line, and with a drawer where the IoU was lost.

    Raises:
        UserError: as `measured` and `diagnosed` do.
    """
    ours = measured(protocol, samples, predictions, bootstrap)
    typer.echo(format_named(shown)(protocol, published(protocol), ours, name), nl=False)
    if drawer:
        for text in diagnosed(protocol, samples, predictions, drawer, bootstrap):
            typer.echo(f"\n{text}", nl=False, err=shown != "markdown")  # a program reads the other formats


def predict_missing(
    protocol: Protocol,
    recipe: Recipe,
    samples: Path,
    predictions: Path,
    batch_size: int,
    crew: Engine,
    retry_failed: bool,
) -> None:
    """Predict every split whose samples are there; what a stopped run left is gone on with, what is done is kept.

    Raises:
        UserError: where none of the protocol's samples are there; as `predict_set` does.
    """
    there = {place: folder for place in protocol.places if (folder := samples_at(samples, place)) is not None}
    if not there:
        raise UserError(f"none of the samples of {protocol.name} are below {samples}: {', '.join(protocol.places)}")
    recipe.check(truth=True)
    check_folder(predictions)
    # an oracle is of its samples, and loads no MLLM; workers load their own
    shared = recipe.build() if isinstance(crew, Here) and recipe.prompter != ORACLE else None
    for place, folder in there.items():
        asked = read_samples(folder)
        typer.echo(f"{place}: {len(asked)} samples", err=True)
        errors = predict_set(
            recipe,
            asked,
            predictions_at(predictions, place),
            batch_size,
            progress,
            shared,
            crew,
            retry_failed=retry_failed,
        )
        if errors:
            typer.echo(f"{place}: {len(errors)} failed, {FAILED}; the first: {errors[0]}", err=True)
