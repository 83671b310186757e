"""`sam4mllm targets`: samples in; out come the prompts that redraw each of their masks best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import Device, Dtype, Images, Samples, Segmenter, SingleMask
from sam4mllm.cli.terminal import progress


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
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    device: Device = None,
    dtype: Dtype = "auto",
) -> None:
    """Find for each mask the prompts that redraw it best: what PPG learns to say."""
    from dataclasses import asdict

    from sam4mllm import __version__
    from sam4mllm.atomic import check_folder
    from sam4mllm.recipe import Recipe
    from sam4mllm.samples import read_samples
    from sam4mllm.target_shards import write_targets
    from sam4mllm.targets import Search, make_targets, report

    search = Search(candidates, positive, negative, jitter, keep, least, seed)
    recipe = Recipe(segmenter=segmenter, single_mask=single_mask, device=device, dtype=dtype)
    recipe.check_by_hand()
    given = read_samples(samples, images)
    check_folder(out)
    drawer = recipe.build_segmenter()
    with progress(sum(len(sample.masks) for sample in given), "searched") as advance:
        found = list(make_targets(given, drawer, search, advance))
    made = {"segmenter": segmenter, "single_mask": single_mask, "dtype": dtype, "sam4mllm": __version__}
    write_targets(found, out, {"search": asdict(search), **made})
    typer.echo(report(found))
