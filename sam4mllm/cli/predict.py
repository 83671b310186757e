"""`sam4mllm predict`: predicts a mask for each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.options import (
    OUTPUT,
    HardwareOptions,
    Images,
    ModelOptions,
    PromptingOptions,
    Samples,
    SegmenterOptions,
    WorkerOptions,
    pipeline_config,
    with_options,
)
from sam4mllm.cli.terminal import finish
from sam4mllm.runtime.progress import progress


@with_options
def predict(
    samples: Samples,
    out: Annotated[
        Path,
        typer.Option("--out", help="Predictions file, NAME.jsonl; an interrupted run resumes.", rich_help_panel=OUTPUT),
    ],
    model: ModelOptions,
    prompting: PromptingOptions,
    segmenter: SegmenterOptions,
    hardware: HardwareOptions,
    workers: WorkerOptions,
    images: Images = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            help="Shard to predict, NUMBER/COUNT; a run without --shard joins all shards.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Predict failed samples again.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Predict a mask for every sample of a folder."""
    from sam4mllm.data.samples import read_samples
    from sam4mllm.evaluation.metrics import profile_for
    from sam4mllm.prediction.outcomes import format_outcomes, outcome
    from sam4mllm.prediction.record import read_predictions
    from sam4mllm.prediction.run import FAILED, predict_set
    from sam4mllm.prediction.store import Shard
    from sam4mllm.runtime.parallel import make_executor

    config = pipeline_config(model, prompting, segmenter, hardware)
    executor = make_executor(workers.workers, hardware.device, workers.ray)
    share = Shard.of(shard) if shard else None
    sample_set = read_samples(samples, images)
    errors = predict_set(
        config,
        sample_set,
        out,
        hardware.batch_size,
        progress,
        executor=executor,
        shard=share,
        retry_failed=retry_failed,
    )
    if errors:
        typer.echo(f"{len(errors)} of {len(sample_set)} samples failed: {FAILED}; the first: {errors[0]}", err=True)
    file = share.file(out) if share else out
    outcomes = (
        outcome(bool(prediction.prompts), prediction.readable, prediction.error is not None)
        for prediction in read_predictions(file)
    )
    finish(
        f"{format_outcomes(outcomes)}; written to {file}",
        *(() if share else ("score", samples, out, "--profile", profile_for(sample_set))),
    )
