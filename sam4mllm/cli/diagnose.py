"""`sam4mllm diagnose`: attributes the lost IoU of predictions to stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    HARDWARE,
    OUTPUT,
    By,
    Images,
    Predictions,
    Profile,
    Samples,
    SegmenterOptions,
    with_options,
)
from sam4mllm.cli.terminal import finish, option
from sam4mllm.runtime.progress import progress, warn


@with_options
def diagnose(
    samples: Samples,
    predictions: Predictions,
    out: Annotated[
        Path,
        typer.Option("--out", help="JSON Lines file to write: the lost IoU of each sample.", rich_help_panel=OUTPUT),
    ],
    segmenter: SegmenterOptions,
    profile: Profile = None,
    by: By = None,
    images: Images = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Torch device. Default: CUDA if available.", rich_help_panel=HARDWARE),
    ] = None,
) -> None:
    """Attribute lost IoU to stages, by replacing one part of a prediction after another with the ground truth.

    The segmenter that predicted redraws the masks; --segmenter is needed only if it was not recorded.
    """
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.diagnose import diagnose_set
    from sam4mllm.evaluation.metrics import profile_for

    sample_set, single_mask = read_samples(samples, images), segmenter.single_mask
    profile = profile or profile_for(sample_set)
    result = diagnose_set(
        sample_set, predictions, segmenter.segmenter, profile, out, progress, by or (), single_mask, device
    )
    warn(result.warnings)
    typer.echo(result.format_tables(by or ()), nl=False)
    summary = f"the lost IoU of {len(result.entries):,} samples is in {out}"
    next_command = ["report", samples, predictions, "--profile", profile, "--diagnosis", out]
    finish(summary, *next_command, *option("--images", images), "--out", out.with_suffix(".html"))
