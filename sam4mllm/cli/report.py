"""`sam4mllm report`: writes an HTML page about predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import OUTPUT, BootstrapSeed, By, Draws, Images, Predictions, Profile, Samples
from sam4mllm.cli.terminal import finish
from sam4mllm.errors import UserError


def report(
    samples: Samples,
    predictions: Predictions,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.", rich_help_panel=OUTPUT)],
    diagnosis: Annotated[
        Path | None, typer.Option("--diagnosis", help="Diagnosis of these predictions, written by `diagnose`.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Other predictions of the same samples, shown side by side.")
    ] = None,
    against_diagnosis: Annotated[
        Path | None, typer.Option("--against-diagnosis", help="Diagnosis of the other predictions.")
    ] = None,
    profile: Profile = None,
    by: By = None,
    images: Images = None,
    cards: Annotated[
        int, typer.Option("--cards", min=1, help="Maximum number of images of each kind.", rich_help_panel=OUTPUT)
    ] = 6,
    draws: Draws = 2000,
    seed: BootstrapSeed = 0,
) -> None:
    """Write one self-contained HTML page: metrics, lost IoU, curves, and images with predictions."""
    if against_diagnosis and not against:
        raise UserError("--against-diagnosis needs --against")
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.evaluation.metrics import profile_for
    from sam4mllm.report.page import write_page

    sample_set = read_samples(samples, images)
    profile = profile or profile_for(sample_set)
    files = [(predictions, diagnosis), *([(against, against_diagnosis)] if against else [])]
    text = write_page(sample_set, samples.name, files, profile, out, Bootstrap(draws, seed), by or (), cards)
    typer.echo(f"{out}: {len(text) / 1e6:.1f} MB")
    finish(f"the page of {len(sample_set):,} samples is in {out}")
