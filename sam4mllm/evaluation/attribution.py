"""Attributes the IoU that each expression lost to the stages of the method, and prints the sums.

The terms of a breakdown add up to 1 - IoU within `TOLERANCE`, and so do the means of several breakdowns. A term is
negative if correcting that stage alone made the mask worse.

One record; stages that lost nothing are left out:

    {"version": 2, "id": "refcoco-unc-5342-15215", "iou": 0.75, "lost": {"loose box": 0.375, "segmenter": -0.125}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.metrics import Profile, profile_named
from sam4mllm.evaluation.oracle_swaps import FAILED, SEGMENTER, STAGES, STATES, oracle_states
from sam4mllm.evaluation.pairing import Locations, evaluate_set
from sam4mllm.evaluation.scores import markdown
from sam4mllm.evaluation.subsets import Subsets
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.rle import Rle, union
from sam4mllm.prediction.record import PARSE_ERRORS, Prediction
from sam4mllm.segmenters import Segmenter

VERSION = 2  # version 1 wrote shares as exact fractions in strings, "3/4"
TOLERANCE = 1e-12  # of the sum of a breakdown's terms
ROUNDING = 1e-15  # smaller means are set to 0: each term is at most 1, so its rounding error is at most 1e-16


@dataclass(frozen=True, slots=True)
class ErrorBreakdown:
    """How much of one expression's IoU each stage lost.

    Attributes:
        id: the sample's id.
        iou: IoU of the predicted mask, 0..1, as the profile counts it but without the profile's epsilon.
        lost: shares by stage, a subset of `STAGES`; a missing stage lost nothing.

    Raises:
        UserError: if the terms do not add up to 1 - IoU, or a stage is unknown.
    """

    id: str
    iou: float
    lost: Mapping[str, float]

    def __post_init__(self) -> None:
        adds_up = abs(math.fsum([self.iou, *self.lost.values(), -1.0])) <= TOLERANCE  # False for nan
        if not adds_up or not set(self.lost) <= set(STAGES):
            raise UserError(f"the error breakdown of {self.id} does not add up to 1 - IoU")

    @property
    def loss(self) -> float:
        """1 - IoU."""
        return 1 - self.iou

    def to_line(self) -> str:
        """The record as one line of JSON."""
        terms = {stage: self.lost[stage] for stage in STAGES if self.lost.get(stage)}
        return json.dumps({"version": VERSION, "id": self.id, "iou": self.iou, "lost": terms})

    @classmethod
    def from_line(cls, line: str) -> ErrorBreakdown:
        """Parses a line that this or an older version wrote.

        Raises:
            UserError: if the line is not a diagnosis record, or has a newer version.
        """
        try:
            record = json.loads(line)
            version, shares = record["version"], record["lost"]
            if version <= VERSION:
                terms = {str(stage): _parse_share(term) for stage, term in shares.items()}
                return cls(str(record["id"]), _parse_share(record["iou"]), terms)
        except (*PARSE_ERRORS, ZeroDivisionError) as error:
            raise UserError(f"not a diagnosis record: {type(error).__name__}: {error}") from error
        raise UserError(f"diagnosis version {version} is newer than {VERSION}: upgrade sam4mllm to read it")


def _parse_share(value: Any) -> float:
    """A JSON number, or a fraction such as "-1/12" or "1", which version 1 wrote."""
    if isinstance(value, str):
        numerator, _, denominator = value.partition("/")
        return int(numerator) / int(denominator or 1)
    return float(value)


def read_breakdowns(path: Path) -> list[ErrorBreakdown]:
    """Reads all breakdowns of a file.

    Raises:
        UserError: if the file cannot be read, or a line is not a breakdown; the message names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    breakdowns = []
    for number, line in enumerate(lines, 1):
        try:
            breakdowns.append(ErrorBreakdown.from_line(line.decode(errors="replace")))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    return breakdowns


def means(breakdowns: Sequence[ErrorBreakdown]) -> dict[str, float]:
    """The mean IoU that each stage lost, over one or more breakdowns."""
    mean_losses = {
        stage: math.fsum(breakdown.lost.get(stage, 0.0) for breakdown in breakdowns) / len(breakdowns)
        for stage in STAGES
    }
    return {stage: mean if abs(mean) > ROUNDING else 0.0 for stage, mean in mean_losses.items()}


def by_label(
    breakdowns: Sequence[ErrorBreakdown], labels: Mapping[str, str], subsets: Subsets
) -> dict[str, list[ErrorBreakdown]]:
    """Groups breakdowns by label, in the order of the subsets; labels without a breakdown are left out.

    Args:
        breakdowns: error breakdowns of any samples.
        labels: the label of each sample, by its id.
        subsets: defines the labels and their order.
    """
    groups = {
        label: [breakdown for breakdown in breakdowns if labels[breakdown.id] == label] for label in subsets.labels
    }
    return {label: group for label, group in groups.items() if group}


def format_table(columns: Mapping[str, Sequence[ErrorBreakdown]], heading: str = "lost to") -> str:
    """A Markdown table of what each stage lost, one column per group, in points of mean IoU.

    The rows of the stages add up to the last row. The number in brackets counts the expressions that the stage changed.

    Args:
        columns: one or more breakdowns, by the name of the group.
        heading: header of the first column.
    """
    mean_losses = {name: means(breakdowns) for name, breakdowns in columns.items()}
    totals = [math.fsum(losses.values()) for losses in mean_losses.values()]
    lines = [[heading, *columns], ["---", *["---:"] * len(columns)]]
    lines.append(["expressions", *(str(len(breakdowns)) for breakdowns in columns.values())])
    lines.append(["mean IoU", *(points(1 - total) for total in totals)])
    for stage in STAGES:
        counts = (count_changed(breakdowns, stage) for breakdowns in columns.values())
        shares = (format_signed(losses[stage]) for losses in mean_losses.values())
        lines.append([stage, *(f"{share} ({count})" for share, count in zip(shares, counts, strict=True))])
    lines.append(["all of the loss", *map(points, totals)])
    return markdown(lines)


def format_signed(share: float) -> str:
    """A share in points of 100, with its sign; 0 has none."""
    return f"{100 * share:+.2f}" if share else "0"


def points(share: float) -> str:
    """A share in points of 100, without a sign."""
    return f"{100 * share:z.2f}"  # z: no "-0.00"


def count_changed(breakdowns: Sequence[ErrorBreakdown], stage: str) -> int:
    """How many expressions lost or gained at a stage."""
    return sum(bool(breakdown.lost.get(stage)) for breakdown in breakdowns)


def diagnose(
    samples: SampleSet,
    predictions: Sequence[Prediction],
    segmenter: Segmenter,
    profile: str,
    advance: Callable[[], None] = lambda: None,
    places: Locations | None = None,
) -> list[ErrorBreakdown]:
    """Breaks down the lost IoU of each sample. Each image is read and embedded at most once.

    Args:
        samples: with ground truth; one image is held at a time.
        predictions: exactly one for each sample, in any order.
        segmenter: the segmenter that made the predicted masks.
        profile: a key of `metrics.PROFILES`; it counts pixels and defines the IoU of two empty masks.
        advance: called after each sample.
        places: locations of the predictions, for error messages.

    Returns:
        One breakdown for each sample, in their order.

    Raises:
        UserError: as `evaluate_set` does; if the image of an answered sample cannot be read; if the segmenter cannot
            take the prompts.
    """
    evaluate_set(samples.samples, predictions, profile, places)
    rules = profile_named(profile)
    predicted = {prediction.id: prediction for prediction in predictions}
    breakdowns: dict[str, ErrorBreakdown] = {}
    for same_image in samples.by_image():
        states = {
            sample.id: oracle_states(sample, predicted[sample.id])
            for sample in same_image
            if predicted[sample.id].error is None
        }
        masks = _segment_all(same_image, states, segmenter)
        for sample in same_image:
            breakdowns[sample.id] = _break_down(sample, predicted[sample.id], states.get(sample.id), masks, rules)
            advance()
    return [breakdowns[sample.id] for sample in samples]


def _segment_all(
    same_image: SampleSet, states: Mapping[str, Sequence[tuple[Prompt, ...]]], segmenter: Segmenter
) -> dict[Prompt, Rle]:
    """The mask of each prompt on one image; equal prompts are segmented once."""
    prompts = list(dict.fromkeys(prompt for sequence in states.values() for state in sequence for prompt in state))
    if not prompts:
        return {}
    segmented = segmenter.embed(same_image.read_image(*same_image)).segment(prompts)
    return {prompt: Rle.from_mask(result.mask) for prompt, result in zip(prompts, segmented, strict=True)}


def _break_down(
    sample: Sample,
    prediction: Prediction,
    states: Sequence[tuple[Prompt, ...]] | None,
    masks: Mapping[Prompt, Rle],
    rules: Profile,
) -> ErrorBreakdown:
    """Each term is the gain in IoU from correcting one stage; the last term is the loss that remains."""
    size = sample.height, sample.width
    redrawn = [union([masks[prompt] for prompt in state], *size) for state in states or ()]
    counts = rules.count_masks(sample, [prediction.counted, *redrawn])
    overlaps = [*map(rules.overlap, counts), (1, 1)]  # intersection and union, in pixels
    stages = (*STATES, SEGMENTER) if states is not None else (FAILED,)
    terms = {
        stage: (after[0] * before[1] - before[0] * after[1]) / (before[1] * after[1])  # integers, rounded once
        for stage, before, after in zip(stages, overlaps[:-1], overlaps[1:], strict=True)
    }
    intersection, union_area = overlaps[0]
    return ErrorBreakdown(sample.id, intersection / union_area, {stage: term for stage, term in terms.items() if term})
