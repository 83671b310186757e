"""The options that several commands have, each with one name and one help; those of a pipeline become its `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sam4mllm.config import Recipe

PROMPTER_OPTIONS = ("positive", "negative", "layout", "points", "budget", "sure_yes", "sure_no", "ask", "seed")

Mllm = Annotated[
    str,
    typer.Option(
        "--mllm", show_default=False, help="Folder or hub name of a transformers model, tiny, or replay:FILE."
    ),
]
Segmenter = Annotated[
    str,
    typer.Option(
        "--segmenter",
        show_default=False,
        help="grabcut, box, tiny, vit_b|vit_l|vit_h:CHECKPOINT, or a folder or hub name.",
    ),
]
Prompter = Annotated[
    str,
    typer.Option(
        "--prompter",
        help="ppg: box and points at once; pqpp: box, then yes or no per point; adaptive: the same, more near edges; "
        "verified: pqpp without fine-tuning; box; oracle: from the true masks.",
    ),
]
Adapter = Annotated[str | None, typer.Option("--adapter", help="Folder of a LoRA trained for the MLLM.")]
Dialect = Annotated[
    str | None, typer.Option("--dialect", help="How the MLLM writes places; else found from its configuration.")
]
Device = Annotated[str | None, typer.Option("--device", help="As torch names it; else the best there is.")]
Dtype = Annotated[str, typer.Option("--dtype", help="As torch names it; auto: the checkpoint's own.")]
DeviceMap = Annotated[
    str | None, typer.Option("--device-map", help="How to spread the MLLM over devices, in place of --device.")
]
Attention = Annotated[
    str | None, typer.Option("--attention", help="The MLLM's attention implementation, as transformers names it.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="How many expressions are asked at once.")]
SingleMask = Annotated[bool, typer.Option("--single-mask", help="The segmenter's one mask, not its best of three.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the MLLM run on this machine.")
]
Positive = Annotated[int | None, typer.Option("--positive", help="ppg, oracle: points on the object. Default 3.")]
Negative = Annotated[int | None, typer.Option("--negative", help="ppg, oracle: points off the object. Default 3.")]
Layout = Annotated[str | None, typer.Option("--layout", help="pqpp: grid, low-discrepancy or interior. Default grid.")]
Points = Annotated[
    int | None,
    typer.Option("--points", help="pqpp: how many are asked about, default 25; adaptive, verified: at first, 9."),
]
Budget = Annotated[int | None, typer.Option("--budget", help="adaptive: points of a box at most. Default 25.")]
SureYes = Annotated[
    float | None, typer.Option("--sure-yes", help="pqpp, adaptive: a point is on above this P(yes). Default .75.")
]
SureNo = Annotated[
    float | None, typer.Option("--sure-no", help="pqpp, adaptive: a point is off above this P(no). Default .9.")
]
Ask = Annotated[str | None, typer.Option("--ask", help="pqpp: one point a question, or a list. Default one.")]
Seed = Annotated[int | None, typer.Option("--seed", help="oracle: of its random points. Default 0.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes, each with its own models.")]
OnRay = Annotated[str | None, typer.Option("--ray", help="Workers on a Ray cluster: local, auto, HOST:PORT.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask again what failed in an earlier run.")]
Devices = Annotated[
    str | None, typer.Option("--device", help="As torch names it, or several for the workers: cuda:0,cuda:1.")
]
Samples = Annotated[Path, typer.Argument(help="Folder of samples.", show_default=False)]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        help="lavt for RES, rela for GRES, lisa for ReasonSeg; to compare: gsva, bool-ignore.",
        show_default=False,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option("--by", help="A table more: by size, share, aspect, words, targets or kind; repeatable."),
]
Images = Annotated[Path | None, typer.Option("--images", help="Root of the pictures, where they were moved.")]


def recipe_of(given: Mapping[str, Any]) -> Recipe:
    """The recipe that a command's arguments make: they bear its fields' names, and those of the prompters' options."""
    from dataclasses import fields

    from sam4mllm.config import Recipe

    options = {name: given[name] for name in PROMPTER_OPTIONS if given.get(name) is not None}
    return Recipe(options=options, **{field.name: given[field.name] for field in fields(Recipe) if field.name in given})
