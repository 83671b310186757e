"""Scores validation samples during training: metrics, and a contact sheet of the first samples.

out/validation/step-000200.jsonl   predictions
out/validation/step-000200.png     the predicted masks of the first samples, which are the same at every step
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet, read_samples, read_shared_image
from sam4mllm.errors import UserError
from sam4mllm.evaluation.scores import score
from sam4mllm.evaluation.signature import fingerprint
from sam4mllm.images.files import write_png
from sam4mllm.mllm import MLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prompters.load import ORACLE, PROMPTERS, Option, PrompterSpec
from sam4mllm.training.callbacks import Scoring
from sam4mllm.training.config.finetune import Validation
from sam4mllm.training.validation_sheet import make_sheet


def choose_samples(validation: Validation) -> SampleSet:
    """Check the names and the image files, and return the validation samples.

    Raises:
        UserError: if the prompter or segmenter cannot be built, the folder has no samples, or an image is missing.
    """
    if validation.prompter == ORACLE:
        choices = ", ".join(name for name in PROMPTERS.rows if name != ORACLE)
        raise UserError(f"validation.prompter is oracle, which uses no model: choose from {choices}")
    PipelineConfig(
        validation.segmenter, "tiny", validation.prompter
    ).check()  # tiny stands in for the model in training
    all_samples = read_samples(Path(validation.samples), Path(validation.images) if validation.images else None)
    if not len(all_samples):
        raise UserError(f"validation.samples {validation.samples} contains no samples")
    number = min(validation.count, len(all_samples))
    spread = tuple(all_samples.samples[index * len(all_samples) // number] for index in range(number))
    samples = SampleSet(spread, all_samples.images)
    for sample in samples:
        if not samples.path(sample).exists():
            raise UserError(f"validation sample {sample.id}: no such file: {samples.path(sample)}")
    return samples


def check_images(samples: SampleSet) -> None:
    """Read the images of the validation samples, so that a damaged image is found before the training.

    Raises:
        UserError: if an image cannot be read or its size differs from the one its samples record; the message names
            the sample and the image.
    """
    for of_image in samples.by_image():
        read_shared_image(of_image.path(of_image.samples[0]), "validation sample", of_image.samples)


def make_scoring(
    validation: Validation, samples: SampleSet, mllm: MLLM, options: Mapping[str, Option], out: Path, device: str | None
) -> Scoring:
    """The scoring of a training; its function predicts the samples at a step, writes files and returns the scores.

    The scores are cIoU and gIoU (as in gRefCOCO's evaluator), the share of first boxes with an IoU of 0.5 or more, and
    the shares of unreadable replies and failed samples.

    Args:
        validation: interval, segmenter, prompter and batch size.
        samples: as `choose_samples` returns them.
        mllm: the model in training.
        options: the prompter's options on the adapter's card.
        out: the folder for the files.
        device: the device of the segmenter.
    """
    prompter = PrompterSpec(validation.prompter, options).load(mllm)
    pipeline = Pipeline(prompter, PipelineConfig(validation.segmenter, device=device).build_segmenter())

    def score_step(step: int) -> Mapping[str, float]:
        file = out / f"step-{step:06d}.jsonl"
        file.unlink(missing_ok=True)  # left by a run that was stopped after an earlier checkpoint
        predict(samples, pipeline, file, batch_size=validation.batch)
        predictions = list(read_predictions(file))
        write_png(file.with_suffix(".png"), make_sheet(samples, predictions))
        scores = score(samples.samples, predictions, "rela")
        return {
            "cIoU": scores.metrics["cIoU"],
            "gIoU": scores.metrics["gIoU"],
            "box": scores.box_accuracy,
            "unreadable": scores.unreadable / scores.n,
            "failed": scores.failed / scores.n,
        }

    names = {"segmenter": validation.segmenter, "prompter": validation.prompter, "options": dict(options)}
    return Scoring(score_step, validation.every, {"samples": fingerprint(samples.samples), **names})
