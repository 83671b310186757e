"""Samples that a training does not learn from, asked while it runs: figures, and a picture to look at.

    out/held_out/step-000200.jsonl   predictions
    out/held_out/step-000200.png     the first of them with what was found, the same at every step

Knows nothing of training: it is called with a step, and asks the model as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet, read_samples, read_shown
from sam4mllm.errors import UserError
from sam4mllm.evaluation.counts import count
from sam4mllm.evaluation.scores import score
from sam4mllm.evaluation.signature import fingerprint
from sam4mllm.geometry.prompts import Image
from sam4mllm.images.files import write_png
from sam4mllm.images.overlay import AnySize, contact_sheet, overlay
from sam4mllm.mllm import MLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.load import ORACLE, PROMPTERS, Option, build_prompter, check_prompter, check_together
from sam4mllm.segmenters.load import build_segmenter, check_segmenter

SHOWN = 16
COLUMNS = 4


@dataclass(frozen=True)
class HeldOut:
    """Which samples are asked, and how.

    Attributes:
        samples: a folder of samples, none of which is learned from.
        segmenter: what draws, as on the command line.
        prompter: one of `prompters.load.PROMPTERS` that asks a model.
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
        """The samples that are asked, once names are checked, and that the pictures' files are there.

        Raises:
            UserError: for a prompter or a segmenter that cannot be built, a folder without samples, and the first of
                the samples whose picture is not there.
        """
        if self.prompter == ORACLE:
            choices = ", ".join(name for name in PROMPTERS if name != ORACLE)
            raise UserError(f"held-out samples are asked of the model, and the oracle asks none: choose from {choices}")
        check_segmenter(self.segmenter)
        check_prompter(self.prompter, {})
        check_together(self.segmenter, self.prompter, {})
        found = read_samples(Path(self.samples), Path(self.images) if self.images else None)
        if not len(found):
            raise UserError(f"{self.samples} holds no samples to hold out")
        few = min(self.count, len(found))
        chosen = SampleSet(tuple(found.samples[index * len(found) // few] for index in range(few)), found.images)
        for sample in chosen:
            if not chosen.path(sample).exists():
                raise UserError(f"held-out sample {sample.id}: no such file: {chosen.path(sample)}")
        return chosen


def check_pictures(samples: SampleSet) -> None:
    """Read the pictures of held-out samples, so that it shows before a training which of them cannot be.

    Raises:
        UserError: naming sample and picture, for the first that cannot be read, or has another size than it says.
    """
    for some in samples.by_picture():
        read_shown(some.path(some.samples[0]), "held-out sample", some.samples)


def asked(held_out: HeldOut, samples: SampleSet, options: Mapping[str, Option]) -> dict[str, Any]:
    """What figures depend on beside the model; those of other samples or other ways are not compared.

    Args:
        held_out: how to ask.
        samples: whom; `HeldOut.chosen`.
        options: the prompter's.
    """
    drawn = {"segmenter": held_out.segmenter, "prompter": held_out.prompter, "options": dict(options)}
    return {"samples": fingerprint(samples.samples), **drawn}


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
    tiles = []
    for sample, prediction in pairs:
        said = prediction.error or f"IoU {_iou(sample, prediction):.2f}"
        picture = _shown(samples, sample)
        tiles.append(overlay(picture, prediction.prompts, [prediction.mask.mask], f"{sample.phrase} ({said})"))
    return contact_sheet(tiles, COLUMNS, (336, 380))


def _shown(samples: SampleSet, sample: Sample) -> Image:
    """A sample's picture, or a blank where it went bad while the training runs, which that must not end."""
    try:
        return samples.picture(sample)
    except UserError:
        return np.full((sample.height, sample.width, 3), 255, dtype=np.uint8)


def _iou(sample: Sample, prediction: Prediction) -> float:
    found = count(sample.truth, prediction.mask, sample.ignore)
    return found.iou if found.union else 1.0
