"""`sam4mllm targets`: samples in; out come the prompts that redraw each of their masks best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam4mllm.cli.options import Devices, Dtype, Images, OnRay, Samples, Segmenter, SingleMask, Workers
from sam4mllm.runtime.progress import progress

if TYPE_CHECKING:
    pass


def targets(
    samples: Samples,
    out: Annotated[Path, typer.Option("--out", help="Folder for the targets.")],
    images: Images = None,
    candidates: Annotated[int, typer.Option("--candidates", help="Prompts tried for each mask.")] = 16,
    positive: Annotated[int, typer.Option("--positive", help="Points on the object in each.")] = 3,
    negative: Annotated[int, typer.Option("--negative", help="Points off it, in its box, in each.")] = 3,
    jitter: Annotated[float, typer.Option("--jitter", help="Share of its sides that a box's edges may move.")] = 0.0,
    keep: Annotated[int, typer.Option("--keep", help="Prompts kept for each mask, at most.")] = 4,
    least: Annotated[float, typer.Option("--least", help="IoU with the mask below which none is kept.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Of the points and edges.")] = 0,
    fewer: Annotated[int, typer.Option("--fewer", help="How many points of each sign a prompt may lack.")] = 0,
    deep: Annotated[float, typer.Option("--deep", help="How much likelier points are far from edges; 0: not.")] = 0.0,
    lattice: Annotated[int, typer.Option("--lattice", help="Points at the centres of N x N cells of a box.")] = 0,
    workers: Workers = 1,
    ray: OnRay = None,
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    device: Devices = None,
    dtype: Dtype = "auto",
) -> None:
    """Find for each mask the prompts that redraw it best: what PPG learns to say. A stopped run goes on."""
    from sam4mllm.config import Recipe
    from sam4mllm.data.samples import read_samples
    from sam4mllm.runtime.files import check_folder
    from sam4mllm.runtime.parallel import make_executor
    from sam4mllm.targets.run import search_targets
    from sam4mllm.targets.search import Search

    search = Search(candidates, positive, negative, jitter, keep, least, seed, fewer, deep, lattice)
    Recipe(segmenter=segmenter, single_mask=single_mask, device=device, dtype=dtype).check_by_hand()
    executor = make_executor(workers, device, ray)
    check_folder(out)
    given = read_samples(samples, images)
    typer.echo(search_targets(given, out, search, segmenter, executor, progress, single_mask, dtype))
