"""`sam4mllm calibrate`: a validation split in, PQPP's options into an adapter's card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    Attention,
    BatchSize,
    Device,
    DeviceMap,
    Dialect,
    Dtype,
    Images,
    Mllm,
    Samples,
    Segmenter,
    SingleMask,
    TrustRemoteCode,
    recipe_of,
)
from sam4mllm.runtime.progress import progress, warn


def calibrate(
    samples: Samples,
    adapter: Annotated[str, typer.Option("--adapter", help="Folder of the adapter; its card is written.")],
    segmenter: Segmenter = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for what was asked and found; else ADAPTER/calibration.")
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Other samples, to measure the gain on.")] = None,
    layouts: Annotated[
        list[str] | None, typer.Option("--layout", help="grid, low-discrepancy or interior; repeatable; else all.")
    ] = None,
    points: Annotated[
        list[int] | None, typer.Option("--points", help="How many are asked about; repeatable; else 9, 16 and 25.")
    ] = None,
    profile: Annotated[str, typer.Option("--profile", help="lavt, rela or lisa, as of score.")] = "lavt",
    metric: Annotated[str, typer.Option("--metric", help="What is made as high as can be.")] = "cIoU",
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap of the 95% interval.")] = 2000,
    images: Images = None,
    mllm: Mllm = "",
    dialect: Dialect = None,
    single_mask: SingleMask = False,
    batch_size: BatchSize = 4,
    device: Device = None,
    dtype: Dtype = "auto",
    device_map: DeviceMap = None,
    attention: Attention = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Choose PQPP's layout, number of points and thresholds on a validation split; a stopped run goes on."""
    given = {name: value for name, value in locals().items() if name != "points"}
    from sam4mllm.evaluation.bootstrap import Bootstrap
    from sam4mllm.evaluation.calibration.choice import Choice
    from sam4mllm.evaluation.calibration.run import calibrate as calibrated
    from sam4mllm.prompters.points import LAYOUTS, Layout

    tried = tuple(Layout(name, many) for name in layouts or LAYOUTS for many in points or (9, 16, 25))
    choice = Choice(tried, profile, metric, bootstrap=Bootstrap(draws))
    found = calibrated(recipe_of(given), choice, samples, out, batch_size, progress, test, images)
    warn(found.warnings)
    typer.echo(found.format_table(), nl=False)
