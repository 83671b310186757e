"""Draws the contact sheet of a validation: the images of the first samples with their predicted masks."""

from __future__ import annotations

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.counts import count
from sam4mllm.geometry.prompts import Image
from sam4mllm.images.overlay import AnySize, contact_sheet, overlay
from sam4mllm.prediction.record import Prediction

SHOWN = 16
COLUMNS = 4


def make_sheet(samples: SampleSet, predictions: list[Prediction]) -> AnySize:
    """A contact sheet of the first samples with their predictions."""
    tiles = []
    for sample, prediction in list(zip(samples, predictions, strict=True))[:SHOWN]:
        caption = prediction.error or f"IoU {_iou(sample, prediction):.2f}"
        masks = [prediction.mask.mask]
        tiles.append(overlay(_read_image(samples, sample), prediction.prompts, masks, f"{sample.phrase} ({caption})"))
    return contact_sheet(tiles, COLUMNS, (336, 380))


def _read_image(samples: SampleSet, sample: Sample) -> Image:
    """A sample's image; blank if the file was damaged after the training started, which must not stop it."""
    try:
        return samples.read_image(sample)
    except UserError:
        return np.full((sample.height, sample.width, 3), 255, dtype=np.uint8)


def _iou(sample: Sample, prediction: Prediction) -> float:
    overlap = count(sample.ground_truth, prediction.mask, sample.ignore)
    return overlap.iou if overlap.union else 1.0
