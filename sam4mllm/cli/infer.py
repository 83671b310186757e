"""`sam4mllm infer`: segments phrases in images; writes overlays, masks and records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    OUTPUT,
    HardwareOptions,
    ModelOptions,
    PromptingOptions,
    SegmenterOptions,
    pipeline_config,
    with_options,
)
from sam4mllm.cli.terminal import finish, standard_output_kept
from sam4mllm.errors import UserError
from sam4mllm.runtime.progress import progress


@with_options
def infer(
    model: ModelOptions,
    prompting: PromptingOptions,
    segmenter: SegmenterOptions,
    hardware: HardwareOptions,
    images: Annotated[list[Path] | None, typer.Argument(help="Images, or folders of images.")] = None,
    phrase: Annotated[list[str] | None, typer.Option("--phrase", help="Referring expression. Repeatable.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="CSV or JSON Lines file with image and phrase, instead of images and --phrase."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", help="Box by hand, x0,y0,x1,y1 in pixels; uses no MLLM. Repeatable."),
    ] = None,
    click: Annotated[
        list[str] | None,
        typer.Option(
            "--click",
            help="Point by hand, x,y,+ (on the object) or x,y,- (off it), in pixels. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for overlays, masks and records.", rich_help_panel=OUTPUT)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print records to standard output, one per line.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Segment what phrases refer to in images."""
    from sam4mllm.prediction.infer import infer as predict_records
    from sam4mllm.prediction.outcomes import format_outcomes, outcome
    from sam4mllm.prediction.requests import parse_request

    if out is None and not as_json:
        raise UserError("no output chosen: add --out FOLDER or --json")
    config = pipeline_config(model, prompting, segmenter, hardware)
    with standard_output_kept() as print_line:
        request = parse_request(images or [], phrase or [], pairs, box or [], click or [])
        records = predict_records(config, request, out, hardware.batch_size)
        outcomes = []
        with progress(len(request.pairs), "predicted") as advance:
            for record in records:
                advance()
                outcomes.append(
                    outcome(bool(record["prompts"]), record["readable"], failed=record["error"] is not None)
                )
                if as_json:
                    print_line(json.dumps(record))
    finish(format_outcomes(outcomes) + (f"; overlays, masks and records are in {out}" if out else ""))
