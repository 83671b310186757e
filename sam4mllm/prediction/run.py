"""Runs `sam4mllm predict`: a samples folder in, a file of predictions out, and the reasons of failed samples.

The settings are written next to the predictions. Two pipelines never share a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.language.templates import WORDING
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import PredictionWork, predict_shard
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.store import Shard
from sam4mllm.prompters.load import ORACLE
from sam4mllm.runtime.files import check_file
from sam4mllm.runtime.parallel import Executor, InProcess
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import hash_weights_in, versions

FAILED = "they count as empty masks until --retry-failed predicts them again"
"""What happens to failed samples."""


def predict_set(
    config: PipelineConfig,
    samples: SampleSet,
    out: Path,
    batch_size: int,
    progress: Progress,
    pipeline: Pipeline | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
    *,
    retry_failed: bool = False,
) -> list[str]:
    """Make ``out`` hold one prediction per sample. A stopped run is resumed.

    Names and the file are checked before a model is loaded. No model is loaded if every sample has a prediction.

    Args:
        config: the pipeline's configuration.
        samples: the samples to predict.
        out: a JSON Lines file, NAME.jsonl, created if necessary. Settings and timings next to it start with NAME.
        batch_size: samples per call of the model, 1 or more.
        progress: creates a progress bar with a given number of steps.
        pipeline: the pipeline of ``config``, if it was built already.
        executor: runs the parts; by default this process, on the recipe's device.
        shard: the shard of the samples to predict; all samples by default.
        retry_failed: whether to predict samples again that failed in an earlier run.

    Returns:
        One ``id: reason`` for each failed sample.

    Raises:
        UserError: if the pipeline cannot be built, or the file does not end with .jsonl, cannot be written, or has
            other predictions; after writing, if every sample failed.
    """
    config, shard = config.resolved(), shard or Shard()
    config.check(has_ground_truth=True)
    config.warn_if_not_trained()
    if out.suffix != ".jsonl":
        raise UserError(f"the file of predictions must end with .jsonl, got {out}")
    check_file(shard.file(out))
    build = _PipelineFactory(config, samples if config.prompter == ORACLE else None)
    work = PredictionWork(build if pipeline is None else lambda _: pipeline, batch_size)
    outcomes: list[str | None] = []
    with progress(len(samples), "predicted") as advance:

        def record_outcome(prediction: Prediction) -> None:
            advance()
            outcomes.append(None if prediction.error is None else f"{prediction.id}: {prediction.error}")

        settings = prediction_settings(config, samples, batch_size)
        executor = executor or InProcess(config.device)
        predict_shard(
            samples, work, executor, out, shard, settings=settings, progress=record_outcome, retry_failed=retry_failed
        )
    errors = [outcome for outcome in outcomes if outcome is not None]
    if errors and len(errors) == len(outcomes):
        raise UserError(f"all {len(errors)} samples failed: {FAILED}; the first: {errors[0]}")
    return errors


def prediction_settings(config: PipelineConfig, samples: SampleSet, batch_size: int) -> dict[str, Any]:
    """The settings that determine predictions. The device is reduced to its kind: cuda, cpu.

    For an adapter they include a fingerprint of its files, because adapters are often retrained in place.
    """
    device_kind = config.device.split(",")[0].split(":")[0] if config.device else None
    pipeline_settings = {
        **asdict(replace(config, device=device_kind)),
        "batch_size": batch_size,
        "images": str(samples.images),
    }
    adapter_files = hash_weights_in(Path(config.adapter)) if config.adapter else []
    return {
        **pipeline_settings,
        "learned": adapter_files,
        "wording": WORDING,
        "versions": versions("peft", "torch", "transformers"),
    }


@dataclass(frozen=True, slots=True)
class _PipelineFactory:
    """Builds the pipeline on a worker's device. The samples are passed only to the oracle."""

    config: PipelineConfig
    samples: SampleSet | None

    def __call__(self, device: str | None) -> Pipeline:
        return replace(self.config, device=device).build(self.samples)
