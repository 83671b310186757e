"""Samples that a training does not learn from, asked while it runs: figures, and a picture to look at.

    out/held_out/step-000200.jsonl   predictions
    out/held_out/step-000200.png     the first of them with what was found, the same at every step

Knows nothing of training: it is called with a step, and asks the model as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sam4mllm.builders import Option, build_prompter, build_segmenter, check_prompter, check_segmenter, check_together
from sam4mllm.draw import AnySize, contact_sheet, overlay
from sam4mllm.errors import UserError
from sam4mllm.images import write_png
from sam4mllm.metrics import count
from sam4mllm.mllm import MLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.predict import predict
from sam4mllm.predictions import Prediction, read_predictions
from sam4mllm.samples import Sample, SampleSet, read_samples
from sam4mllm.score import score

SHOWN = 16
COLUMNS = 4


@dataclass(frozen=True)
class HeldOut:
    """Which samples are asked, and how.

    Attributes:
        samples: a folder of samples, none of which is learned from.
        segmenter: what draws, as on the command line.
        prompter: one of `builders.PROMPTERS`.
        count: how many samples, spread over the folder.
        every: steps between looks; there is one more after the last step.
        images: the root of the pictures, where they were moved.
        batch: how many are asked at once.

    Raises:
        UserError: for numbers below 1.
    """

    samples: str
    segmenter: str
    prompter: str = "ppg"
    count: int = 64
    every: int = 500
    images: str | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        if min(self.count, self.every, self.batch) < 1:
            raise UserError(
                f"held-out samples are 1 or more, every 1 or more steps, 1 or more at once, got count {self.count}, "
                f"every {self.every} and batch {self.batch}"
            )

    def chosen(self) -> SampleSet:
        """The samples that are asked, once names are checked.

        Raises:
            UserError: for a prompter or a segmenter that cannot be built, and a folder without samples.
        """
        check_segmenter(self.segmenter)
        check_prompter(self.prompter, {})
        check_together(self.segmenter, self.prompter)
        found = read_samples(Path(self.samples), Path(self.images) if self.images else None)
        if not len(found):
            raise UserError(f"{self.samples} holds no samples to hold out")
        few = min(self.count, len(found))
        return SampleSet(tuple(found.samples[index * len(found) // few] for index in range(few)), found.images)


def watcher(
    held_out: HeldOut, samples: SampleSet, mllm: MLLM, options: Mapping[str, Option], out: Path, device: str | None
) -> Callable[[int], Mapping[str, float]]:
    """What is to be called with a step: it asks the model, leaves files in ``out``, and gives figures.

    These are cIoU and gIoU (as gRefCOCO's evaluator counts them), the share of first boxes with an IoU of .5 or more,
    and the shares of unreadable replies and of failed samples.

    Args:
        held_out: how to ask.
        samples: whom; `HeldOut.chosen`.
        mllm: the model in training.
        options: the prompter's, as the model is taught.
        out: the folder for the files.
        device: the segmenter's.
    """
    prompter = build_prompter(held_out.prompter, mllm, options)
    pipeline = Pipeline(prompter, build_segmenter(held_out.segmenter, device=device))

    def look(step: int) -> Mapping[str, float]:
        file = out / f"step-{step:06d}.jsonl"
        file.unlink(missing_ok=True)  # of a run that was stopped after an earlier checkpoint
        predict(samples, pipeline, file, batch_size=held_out.batch)
        predictions = list(read_predictions(file))
        write_png(file.with_suffix(".png"), sheet(samples, predictions))
        scores = score(samples.samples, predictions, "rela")
        return {
            "cIoU": scores.metrics["cIoU"],
            "gIoU": scores.metrics["gIoU"],
            "box": scores.box_accuracy,
            "unreadable": scores.unreadable / scores.n,
            "failed": scores.failed / scores.n,
        }

    return look


def sheet(samples: SampleSet, predictions: list[Prediction]) -> AnySize:
    """The first of the samples with what was found in each."""
    pairs = list(zip(samples, predictions, strict=True))[:SHOWN]
    tiles = [
        overlay(
            samples.picture(sample),
            prediction.prompts,
            [prediction.mask.mask],
            f"{sample.phrase} (IoU {_iou(sample, prediction):.2f})",
        )
        for sample, prediction in pairs
    ]
    return contact_sheet(tiles, COLUMNS, (336, 380))


def _iou(sample: Sample, prediction: Prediction) -> float:
    found = count(sample.truth, prediction.mask, sample.ignore)
    return found.iou if found.union else 1.0
