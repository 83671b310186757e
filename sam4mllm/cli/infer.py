"""`sam4mllm infer`: pictures and phrases in; overlays, masks and records out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    Adapter,
    Ask,
    Attention,
    BatchSize,
    Budget,
    Device,
    DeviceMap,
    Dialect,
    Dtype,
    Layout,
    Mllm,
    Negative,
    Points,
    Positive,
    Prompter,
    Segmenter,
    SingleMask,
    SureNo,
    SureYes,
    TrustRemoteCode,
    recipe_of,
)
from sam4mllm.cli.terminal import standard_output_kept
from sam4mllm.errors import UserError
from sam4mllm.runtime.progress import progress


def infer(
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures, or folders of them.")] = None,
    phrase: Annotated[list[str] | None, typer.Option("--phrase", help="What to look for; repeatable.")] = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="CSV or JSON lines with image and phrase, for pictures and phrases.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option("--box", help="x0,y0,x1,y1 by hand, in pixels; repeatable; asks no MLLM.")
    ] = None,
    click: Annotated[
        list[str] | None, typer.Option("--click", help="x,y,+ on or x,y,- off the object, beside a box; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for overlays, masks and records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Records to standard output, one a line.")] = False,
    mllm: Mllm = "",
    adapter: Adapter = None,
    dialect: Dialect = None,
    prompter: Prompter = "ppg",
    positive: Positive = None,
    negative: Negative = None,
    layout: Layout = None,
    points: Points = None,
    budget: Budget = None,
    sure_yes: SureYes = None,
    sure_no: SureNo = None,
    ask: Ask = None,
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    batch_size: BatchSize = 4,
    device: Device = None,
    dtype: Dtype = "auto",
    device_map: DeviceMap = None,
    attention: Attention = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Find what phrases mean in pictures, and draw it."""
    recipe = recipe_of(locals())
    from sam4mllm.prediction.infer import infer as answered
    from sam4mllm.prediction.requests import requested

    if out is None and not as_json:
        raise UserError("nothing would be kept: give --out FOLDER, or --json for standard output")
    with standard_output_kept() as print_line:
        request = requested(pictures or [], phrase or [], pairs, box or [], click or [])
        records = answered(recipe, request, out, batch_size)
        with progress(len(request.pairs), "answered") as advance:
            for record in records:
                advance()
                if as_json:
                    print_line(json.dumps(record))
