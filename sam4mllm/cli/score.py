"""`sam4mllm score`: computes the metrics of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import OUTPUT, BootstrapSeed, By, Draws, Profile, Samples
from sam4mllm.cli.terminal import finish
from sam4mllm.runtime.progress import warn


def score(
    samples: Samples,
    predictions: Annotated[
        Path,
        typer.Argument(help="Predictions, a folder of PNG masks, or a JSON list of COCO RLE.", show_default=False),
    ],
    profile: Profile = None,
    by: By = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Other predictions of the same samples; adds the paired difference."),
    ] = None,
    draws: Draws = 2000,
    seed: BootstrapSeed = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Compute the metrics of predictions, with 95% intervals and a signature. Needs no model."""
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.evaluation.metrics import profile_for
    from sam4mllm.evaluation.scores import score_files
    from sam4mllm.prediction.store import read_settings

    sample_set = read_samples(samples)
    profile = profile or profile_for(sample_set)
    result = score_files(sample_set.samples, predictions, profile, Bootstrap(draws, seed), by or (), against)
    warn(result.warnings)
    typer.echo(json.dumps(result.to_json()) if as_json else result.format_tables(samples.name), nl=as_json)
    if predictions.suffix == ".jsonl" and not as_json:
        diagnosis = predictions.with_name(f"{predictions.stem}-diagnosis.jsonl")
        segmenter = () if read_settings(predictions).get("segmenter") else ("--segmenter", "SEGMENTER")
        finish("", "diagnose", samples, predictions, "--profile", profile, *segmenter, "--out", diagnosis)
