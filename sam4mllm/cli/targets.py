"""`sam4mllm targets`: searches the prompts from which a segmenter reproduces each mask best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    declare,
    with_options,
)
from sam4mllm.cli.terminal import finish, option
from sam4mllm.runtime.progress import progress

SEARCH = "Search"


@dataclass(frozen=True)
class SearchOptions:
    """How the prompts of a mask are searched."""

    candidates: Annotated[int, declare("--candidates", "Prompts to try per mask.", SEARCH)] = 16
    positive: Annotated[int, declare("--positive", "Positive points per prompt.", SEARCH)] = 3
    negative: Annotated[int, declare("--negative", "Negative points per prompt, inside the box.", SEARCH)] = 3
    jitter: Annotated[float, declare("--jitter", "Largest shift of box edges, as a share of the box.", SEARCH)] = 0.0
    keep: Annotated[int, declare("--keep", "Maximum number of prompts to keep per mask.", SEARCH)] = 4
    least: Annotated[float, declare("--least", "Minimum IoU of kept prompts.", SEARCH)] = 0.5
    seed: Annotated[int, declare("--seed", "Random seed.", SEARCH)] = 0
    fewer: Annotated[int, declare("--fewer", "Draw up to this many fewer points of each label per prompt.", SEARCH)] = 0
    deep: Annotated[
        float, declare("--deep", "Strength of the preference for points far from edges; 0: none.", SEARCH)
    ] = 0.0
    lattice: Annotated[
        int, declare("--lattice", "Place points at the centres of N x N cells of the box; 0: anywhere.", SEARCH)
    ] = 0


@with_options
def targets(
    samples: Samples,
    out: Annotated[Path, declare("--out", "Folder for the targets; an interrupted run resumes.", OUTPUT)],
    segmenter: SegmenterOptions,
    hardware: DeviceOptions,
    workers: WorkerOptions,
    search: SearchOptions,
    images: Images = None,
) -> None:
    """Find the prompts from which the segmenter reproduces each mask best, to train PPG on."""
    from sam4mllm.config import PipelineConfig
    from sam4mllm.data.samples import read_samples
    from sam4mllm.runtime.files import check_folder
    from sam4mllm.runtime.parallel import make_executor
    from sam4mllm.targets.run import search_targets
    from sam4mllm.targets.search import Search

    name, single_mask, dtype = segmenter.segmenter, segmenter.single_mask, hardware.dtype
    settings = Search(**asdict(search))
    PipelineConfig(segmenter=name, single_mask=single_mask, device=hardware.device, dtype=dtype).check_user_prompts()
    executor = make_executor(workers.workers, hardware.device, workers.ray)
    check_folder(out)
    sample_set = read_samples(samples, images)
    typer.echo(search_targets(sample_set, out, settings, name, executor, progress, single_mask, dtype))
    next_command = ["data", "preview", samples, "--targets", out, "--segmenter", name]
    finish(f"targets are in {out}", *next_command, *option("--images", images))
