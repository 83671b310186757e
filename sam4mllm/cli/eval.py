"""`sam4mllm eval`: the tables of a benchmark, one command per protocol, and the synthetic benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
from sam4mllm.errors import UserError
from sam4mllm.protocols.gres import GRES
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.protocols.reasonseg import REASONSEG
from sam4mllm.protocols.res import RES
from sam4mllm.protocols.ways import WAYS

BATCH = 4

evaluation = typer.Typer(no_args_is_help=True, help="Print the tables of a benchmark, beside published numbers.")


def _add_protocol_command(protocol: Protocol) -> None:
    def command(
        samples: Annotated[Path, typer.Option("--samples", help="Root of the sets: NAME/SPLIT, as data leaves them.")],
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
        from sam4mllm.config import Recipe
        from sam4mllm.evaluation.bootstrap import Bootstrap
        from sam4mllm.protocols.diagnosis import diagnosed
        from sam4mllm.protocols.measure import predict_missing
        from sam4mllm.protocols.tables import format_named, protocol_table
        from sam4mllm.runtime.parallel import make_executor

        # what is predicted here has its note beside it, which says more
        drawer = Recipe(segmenter="" if predict else segmenter, single_mask=single_mask, device=device)
        format_named(shown)
        if predict:
            executor = make_executor(workers, device, ray)
            predict_missing(protocol, recipe, samples, predictions, batch_size, executor, retry_failed)
        elif recipe != (drawer if diagnose else Recipe()) or workers != 1 or ray or retry_failed or batch_size != BATCH:
            raise UserError("models are for --predict: without it, predictions are only scored")
        bootstrap = Bootstrap(draws)
        typer.echo(protocol_table(protocol, samples, predictions, shown, name, bootstrap), nl=False)
        if diagnose:
            for text in diagnosed(protocol, samples, predictions, drawer, bootstrap):
                typer.echo(f"\n{text}", nl=False, err=shown != "markdown")  # a program reads the other formats

    evaluation.command(protocol.name, help=protocol.title)(command)


for _protocol in (RES, GRES, REASONSEG):
    _add_protocol_command(_protocol)


@evaluation.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Option("--out", help="Root of what is drawn, answered and found.")],
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Of the test split.")] = 230,
    way: Annotated[list[str] | None, typer.Option("--way", help=f"{', '.join(WAYS)}; repeatable.")] = None,
    ambiguous: Annotated[
        bool, typer.Option("--ambiguous", help="Ask only those whose target shares its box with another figure.")
    ] = False,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap.")] = 2000,
) -> None:
    """RES, GRES and reasoning on synthetic scenes: tables, where the IoU was lost, and a page."""
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.protocols.synthetic import evaluate, ways_named
    from sam4mllm.synthetic.shards import AMBIGUOUS

    home = out / f"shapes-{scenes}{AMBIGUOUS if ambiguous else ''}"
    typer.echo(evaluate(home, scenes, ways_named(way or list(WAYS)), Bootstrap(draws), ambiguous), nl=False)
    typer.echo(f"all of it is in {home}", err=True)
