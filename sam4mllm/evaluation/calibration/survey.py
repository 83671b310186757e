"""Runs a resumable survey of a split, and segments the prompts of each setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.calibration.sweep import Setting, Survey, SweepResult, sweep
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import PredictionWork, predict_shard
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prediction.run import prediction_settings
from sam4mllm.prediction.store import Shard
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.runtime.progress import Progress


@dataclass(frozen=True, slots=True)
class SurveyRunner:
    """Surveys splits with one configuration; loads the MLLM only if answers are missing."""

    config: PipelineConfig
    profile: str
    batch_size: int
    progress: Progress

    def run_survey(
        self, samples: SampleSet, settings: Sequence[Setting], file: Path
    ) -> tuple[SweepResult, tuple[str, ...]]:
        """Surveys a split, resuming a stopped run, and counts the pixels of each setting.

        Samples that failed in an earlier run are retried. A sample that fails in this run has an empty mask for every
        setting, and adds a warning.

        Raises:
            UserError: if every sample failed, or as `predict_shard` and `sweep` do.
        """
        layouts = list(dict.fromkeys(setting.layout for setting in settings))
        segmenter = self.config.build_segmenter()
        work = PredictionWork(lambda _: Pipeline(Survey(self.config.build_mllm(), layouts), segmenter), self.batch_size)
        options = {"layouts": " ".join(f"{layout.name}:{layout.points}" for layout in layouts)}
        run_settings = prediction_settings(
            replace(self.config, prompter="survey", options=options), samples, self.batch_size
        )
        with self.progress(len(samples), "asked") as advance:
            predict_shard(
                samples,
                work,
                InProcess(),
                file,
                Shard(),
                settings=run_settings,
                progress=lambda _: advance(),
                retry_failed=True,
            )
        answers = read_predictions(file)
        failed = _warn_of_failures(answers)
        with self.progress(len(samples), "drawn") as advance:
            return sweep(samples, answers, segmenter, settings, self.profile, advance), failed


def _warn_of_failures(answers: Sequence[Prediction]) -> tuple[str, ...]:
    """A warning about failed samples, if there are any; raises a `UserError` if all failed."""
    errors = [f"{answer.id}: {answer.error}" for answer in answers if answer.error is not None]
    if len(errors) == len(answers):
        raise UserError(f"cannot calibrate: all {len(answers)} samples failed, first {errors[0]}")
    count = f"{len(errors)} of {len(answers)} samples failed; run the same command again to retry them; first: "
    return (count + errors[0],) if errors else ()
