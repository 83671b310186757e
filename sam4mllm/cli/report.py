"""`sam4mllm report`: predictions in, one page to look at out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import By, Images, Profile, Samples
from sam4mllm.errors import UserError


def report(
    samples: Samples,
    predictions: Annotated[Path, typer.Argument(help="What predict made.", show_default=False)],
    profile: Profile,
    out: Annotated[Path, typer.Option("--out", help="The page, HTML.")],
    diagnosis: Annotated[Path | None, typer.Option("--diagnosis", help="What diagnose made of them.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Other predictions of the same samples, set beside.")
    ] = None,
    against_diagnosis: Annotated[
        Path | None, typer.Option("--against-diagnosis", help="What diagnose made of those.")
    ] = None,
    by: By = None,
    images: Images = None,
    cards: Annotated[int, typer.Option("--cards", min=1, help="Pictures of each kind at most.")] = 6,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap of the 95% intervals.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """One HTML page that stands alone: numbers, where the IoU was lost, curves, and pictures with what was said."""
    if against_diagnosis and not against:
        raise UserError("a second diagnosis is of second predictions: give --against too")
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.report.page import write_page

    asked = read_samples(samples, images)
    files = [(predictions, diagnosis), *([(against, against_diagnosis)] if against else [])]
    text = write_page(asked, samples.name, files, profile, out, Bootstrap(draws, seed), by or (), cards)
    typer.echo(f"{out}: {len(text) / 1e6:.1f} MB")
