"""`sam4mllm score`: predictions in, numbers out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import Samples


def score(
    samples: Samples,
    predictions: Annotated[Path, typer.Argument(help="What predict made of them.", show_default=False)],
    profile: Annotated[str, typer.Option("--profile", help="lavt for RES, rela for GRES, lisa for ReasonSeg.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of a table.")] = False,
) -> None:
    """The numbers of predictions, on the CPU."""
    from sam4mllm.predictions import read_predictions
    from sam4mllm.samples import read_samples
    from sam4mllm.score import score as scored
    from sam4mllm.score import table

    numbers = scored(read_samples(samples).samples, read_predictions(predictions), profile)
    typer.echo(json.dumps(numbers.to_json()) if as_json else table({samples.name: numbers}), nl=as_json)
