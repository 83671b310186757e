"""`sam4mllm calibrate`: chooses PQPP's options on a validation split and writes them to the adapter's card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    OUTPUT,
    PROMPTING,
    Draws,
    HardwareOptions,
    Images,
    ModelOptions,
    Samples,
    SegmenterOptions,
    pipeline_config,
    with_options,
)
from sam4mllm.cli.terminal import finish, option
from sam4mllm.runtime.progress import progress, warn


@with_options
def calibrate(
    samples: Samples,
    model: ModelOptions,
    segmenter: SegmenterOptions,
    hardware: HardwareOptions,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results. Default: ADAPTER/calibration.", rich_help_panel=OUTPUT),
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Folder of other samples to measure the gain on.")] = None,
    layouts: Annotated[
        list[str] | None,
        typer.Option(
            "--layout",
            help="Layouts to try: grid, low-discrepancy or interior. Repeatable. Default: all.",
            rich_help_panel=PROMPTING,
        ),
    ] = None,
    points: Annotated[
        list[int] | None,
        typer.Option(
            "--points",
            help="Numbers of points per box to try. Repeatable. Default: 9, 16 and 25.",
            rich_help_panel=PROMPTING,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="Rules of the metric: lavt for RES, rela for GRES, lisa for ReasonSeg.")
    ] = "lavt",
    metric: Annotated[
        str,
        typer.Option(
            "--metric", help="Metric to maximise: cIoU, mIoU (lavt), gIoU (rela, lisa) or another of the profile."
        ),
    ] = "cIoU",
    draws: Draws = 2000,
    images: Images = None,
) -> None:
    """Choose PQPP's layout, number of points and thresholds on a validation split. An interrupted run resumes."""
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.evaluation.calibration.choice import SearchSpace
    from sam4mllm.evaluation.calibration.run import calibrate as choose_options
    from sam4mllm.prompters.points import LAYOUTS, Layout

    candidates = tuple(Layout(name, count) for name in layouts or LAYOUTS for count in points or (9, 16, 25))
    search_space = SearchSpace(candidates, profile, metric, bootstrap=Bootstrap(draws))
    config = pipeline_config(model, None, segmenter, hardware)
    result = choose_options(config, search_space, samples, out, hardware.batch_size, progress, test, images)
    warn(result.warnings)
    typer.echo(result.format_table(), nl=False)
    summary = f"the options are in {model.adapter}, which predict and infer read"
    base, image_root = option("--mllm", model.mllm), option("--images", images)
    next_command = ["predict", test or samples, *base, "--adapter", model.adapter, "--prompter", "pqpp"]
    finish(summary, *next_command, "--segmenter", segmenter.segmenter, *image_root, "--out", "predictions.jsonl")
