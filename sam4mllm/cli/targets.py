"""`sam4mllm targets`: searches the prompts from which a segmenter reproduces each mask best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    OUTPUT,
    DeviceOptions,
    Images,
    Samples,
    SegmenterOptions,
    WorkerOptions,
    with_options,
)
from sam4mllm.cli.terminal import finish, option
from sam4mllm.runtime.progress import progress

SEARCH = "Search"


@with_options
def targets(
    samples: Samples,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the targets; an interrupted run resumes.", rich_help_panel=OUTPUT)
    ],
    segmenter: SegmenterOptions,
    hardware: DeviceOptions,
    workers: WorkerOptions,
    images: Images = None,
    candidates: Annotated[
        int, typer.Option("--candidates", help="Prompts to try per mask.", rich_help_panel=SEARCH)
    ] = 16,
    positive: Annotated[
        int, typer.Option("--positive", help="Positive points per prompt.", rich_help_panel=SEARCH)
    ] = 3,
    negative: Annotated[
        int, typer.Option("--negative", help="Negative points per prompt, inside the box.", rich_help_panel=SEARCH)
    ] = 3,
    jitter: Annotated[
        float,
        typer.Option("--jitter", help="Largest shift of box edges, as a share of the box.", rich_help_panel=SEARCH),
    ] = 0.0,
    keep: Annotated[
        int, typer.Option("--keep", help="Maximum number of prompts to keep per mask.", rich_help_panel=SEARCH)
    ] = 4,
    least: Annotated[float, typer.Option("--least", help="Minimum IoU of kept prompts.", rich_help_panel=SEARCH)] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.", rich_help_panel=SEARCH)] = 0,
    fewer: Annotated[
        int,
        typer.Option(
            "--fewer", help="Maximum number of points that a prompt may lack, for each label.", rich_help_panel=SEARCH
        ),
    ] = 0,
    deep: Annotated[
        float,
        typer.Option(
            "--deep", help="Strength of the preference for points far from edges; 0: none.", rich_help_panel=SEARCH
        ),
    ] = 0.0,
    lattice: Annotated[
        int,
        typer.Option(
            "--lattice",
            help="Place points at the centres of N x N cells of the box; 0: anywhere.",
            rich_help_panel=SEARCH,
        ),
    ] = 0,
) -> None:
    """Find the prompts from which the segmenter reproduces each mask best, to train PPG on."""
    from sam4mllm.config import PipelineConfig
    from sam4mllm.data.samples import read_samples
    from sam4mllm.runtime.files import check_folder
    from sam4mllm.runtime.parallel import make_executor
    from sam4mllm.targets.run import search_targets
    from sam4mllm.targets.search import Search

    name, single_mask, dtype = segmenter.segmenter, segmenter.single_mask, hardware.dtype
    search = Search(candidates, positive, negative, jitter, keep, least, seed, fewer, deep, lattice)
    PipelineConfig(segmenter=name, single_mask=single_mask, device=hardware.device, dtype=dtype).check_user_prompts()
    executor = make_executor(workers.workers, hardware.device, workers.ray)
    check_folder(out)
    sample_set = read_samples(samples, images)
    typer.echo(search_targets(sample_set, out, search, name, executor, progress, single_mask, dtype))
    next_command = ["data", "preview", samples, "--targets", out, "--segmenter", name]
    finish(f"targets are in {out}", *next_command, *option("--images", images))
