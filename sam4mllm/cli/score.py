"""`sam4mllm score`: predictions in, numbers out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import By, Profile, Samples
from sam4mllm.runtime.progress import warn


def score(
    samples: Samples,
    predictions: Annotated[
        Path,
        typer.Argument(help="What predict made, a folder of PNGs, or a list of COCO RLE as JSON.", show_default=False),
    ],
    profile: Profile,
    by: By = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Other predictions of the same samples: the difference, paired.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap of the 95% intervals.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of tables.")] = False,
) -> None:
    """The numbers of predictions, on the CPU, with what they were made of."""
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.evaluation.scores import scored

    found = scored(read_samples(samples).samples, predictions, profile, Bootstrap(draws, seed), by or (), against)
    warn(found.warnings)
    typer.echo(json.dumps(found.to_json()) if as_json else found.format_tables(samples.name), nl=as_json)
