"""`sam4mllm diagnose`: predictions in, where their IoU was lost out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import By, Device, Images, Profile, Samples, Segmenter, SingleMask
from sam4mllm.runtime.progress import progress, warn


def diagnose(
    samples: Samples,
    predictions: Annotated[Path, typer.Argument(help="What predict made.", show_default=False)],
    profile: Profile,
    out: Annotated[Path, typer.Option("--out", help="Where each one's IoU was lost, JSON lines.")],
    segmenter: Segmenter = "",
    by: By = None,
    images: Images = None,
    single_mask: SingleMask = False,
    device: Device = None,
) -> None:
    """Which stage lost the IoU: the truth is swapped in stage by stage, and drawn by the segmenter that predicted."""
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.diagnose import diagnose_set

    asked = read_samples(samples, images)
    found = diagnose_set(asked, predictions, segmenter, profile, out, progress, by or (), single_mask, device)
    warn(found.warnings)
    typer.echo(found.format_tables(by or ()), nl=False)
