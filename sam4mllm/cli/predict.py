"""`sam4mllm predict`: samples in, predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    Adapter,
    Ask,
    Attention,
    BatchSize,
    Budget,
    DeviceMap,
    Devices,
    Dialect,
    Dtype,
    Images,
    Layout,
    Mllm,
    Negative,
    OnRay,
    Points,
    Positive,
    Prompter,
    RetryFailed,
    Samples,
    Seed,
    Segmenter,
    SingleMask,
    SureNo,
    SureYes,
    TrustRemoteCode,
    Workers,
    recipe_of,
)
from sam4mllm.runtime.progress import progress


def predict(
    samples: Samples,
    out: Annotated[Path, typer.Option("--out", help="Predictions, NAME.jsonl; a stopped run goes on.")],
    images: Images = None,
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
    seed: Seed = None,
    segmenter: Segmenter = "",
    single_mask: SingleMask = False,
    batch_size: BatchSize = 4,
    workers: Workers = 1,
    ray: OnRay = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="NUMBER/COUNT: that share of the work; without it all are joined.")
    ] = None,
    retry_failed: RetryFailed = False,
    device: Devices = None,
    dtype: Dtype = "auto",
    device_map: DeviceMap = None,
    attention: Attention = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Answer every sample of a set, one line each."""
    recipe = recipe_of(locals())
    from sam4mllm.data.samples import read_samples
    from sam4mllm.prediction.run import FAILED, predict_set
    from sam4mllm.prediction.store import Shard
    from sam4mllm.runtime.parallel import make_executor

    executor, share = make_executor(workers, device, ray), Shard.of(shard) if shard else None
    asked = read_samples(samples, images)
    errors = predict_set(
        recipe, asked, out, batch_size, progress, executor=executor, shard=share, retry_failed=retry_failed
    )
    if errors:
        typer.echo(f"{len(errors)} of {len(asked)} samples failed, {FAILED}; the first: {errors[0]}", err=True)
