"""Pairs samples with predictions and counts pixels: the `EvaluatedSet` from which all scores are computed.

Every sample needs exactly one prediction, of the size of its image. Otherwise an error names the first violation.

    >>> evaluate_set(samples, predictions, "rela").ratios["gIoU"].value
    0.71
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio, group_indices
from sam4mllm.evaluation.counts import CountColumns, GroundTruth
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.subsets import Subsets
from sam4mllm.geometry.rle import Encoded, boxes
from sam4mllm.prediction.record import Outcome, Prediction

BOX = "box Acc@0.5"
CHUNK_SIZE = 100  # outcomes; their run lengths fit in the processor's cache


@dataclass(frozen=True, slots=True)
class Locations:
    """The locations of outcomes, for error messages.

    Attributes:
        path: the file or folder with all outcomes.
        unit: what holds an outcome in that file: ``line`` or ``entry``.
        named: returns the file name for a sample's id; None if one file holds all outcomes.
    """

    path: Path
    unit: str = "line"
    named: Callable[[str], str] | None = None

    def of(self, number: int, name: str) -> str:
        """The location of an outcome, given its index from 0 and its sample's id."""
        return str(self.path / self.named(name)) if self.named else f"{self.path}, {self.unit} {number + 1}"


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedSet:
    """Samples with the pixel counts and flags of their predictions, in the order of the samples.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        samples: the expressions.
        pixels: pixel counts, as the profile counts them.
        hits: whether the first predicted box has an IoU of .5 or more with the box around the ground truth.
        unreadable: whether a reply was neither boxes nor "none".
        failed: whether the sample has an error instead of an answer.
        oracle: whether the prompts were made from the ground truth.
        boxed: whether the predicted boxes are known.
    """

    profile: str
    samples: tuple[Sample, ...]
    pixels: CountColumns
    hits: Bool[np.ndarray, " n"]
    unreadable: Bool[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    oracle: Bool[np.ndarray, " n"]
    boxed: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: Int64[np.ndarray, " rows"]) -> EvaluatedSet:
        """The subset of expressions at these rows."""
        return EvaluatedSet(
            self.profile,
            tuple(self.samples[row] for row in rows.tolist()),
            self.pixels[rows],
            *(column[rows] for column in (self.hits, self.unreadable, self.failed, self.oracle, self.boxed)),
        )

    @property
    def ratios(self) -> dict[str, Ratio]:
        """The profile's metrics, and Acc@0.5 over the expressions with one target and known boxes."""
        counted = self.boxed & np.array([len(sample.masks) == 1 for sample in self.samples], dtype=bool)
        return {**profile_named(self.profile).ratios(self.pixels), BOX: Ratio((self.hits & counted) * 1, counted * 1)}

    @property
    def images(self) -> Int64[np.ndarray, " n"]:
        """The index of each expression's image."""
        return group_indices([sample.image for sample in self.samples])


def evaluate_set(
    samples: Sequence[Sample], outcomes: Iterable[Outcome | Prediction], profile: str, places: Locations | None = None
) -> EvaluatedSet:
    """Pairs each sample with its outcome and counts pixels, one chunk of outcomes at a time.

    Args:
        samples: samples with ground truth.
        outcomes: exactly one for each sample, in any order.
        profile: a key of `metrics.PROFILES`.
        places: locations of the outcomes, for error messages.

    Raises:
        UserError: if the profile is unknown; if a sample has no outcome or several, or an outcome belongs to no sample
            (the message gives their number and the first); if a mask has the wrong size or is damaged; if there are no
            samples.
    """
    if not samples:
        raise UserError("no samples to score")
    count, pairing = profile_named(profile).count, _Pairing(samples, places)
    pixels, hits = CountColumns.empty(len(samples)), np.zeros(len(samples), dtype=bool)
    flags = np.zeros((4, len(samples)), dtype=bool)
    for rows, chunk in pairing.chunks(outcomes):
        chunk_samples = [samples[row] for row in rows]
        pixels.put(np.array(rows), _count_chunk(count, chunk_samples, chunk, pairing))
        hits[rows] = _box_hits(chunk_samples, chunk)
        flags[:, rows] = np.array(
            [(not outcome.readable, outcome.failed, outcome.oracle, outcome.boxed) for outcome in chunk]
        ).T
    pairing.check_complete()
    return EvaluatedSet(profile, tuple(samples), pixels, hits, *flags)


def by_label(evaluated: EvaluatedSet, subsets: Subsets) -> dict[str, EvaluatedSet]:
    """Splits a set by label, in the order of the labels; labels without a sample are left out."""
    labels = [subsets.label_of(sample) for sample in evaluated.samples]
    rows = {name: [row for row, label in enumerate(labels) if label == name] for name in subsets.labels}
    return {label: evaluated.select(np.array(indices, dtype=np.int64)) for label, indices in rows.items() if indices}


class _Pairing:
    """Tracks which samples have an outcome, and which outcomes are duplicates or belong to no sample."""

    def __init__(self, samples: Sequence[Sample], places: Locations | None) -> None:
        self.samples, self.places = samples, places
        self.rows = {sample.id: row for row, sample in enumerate(samples)}
        self.numbers: dict[str, int] = {}
        self.unknown: list[tuple[int, str]] = []
        self.duplicates: list[tuple[int, str]] = []

    def chunks(self, outcomes: Iterable[Outcome | Prediction]) -> Iterator[tuple[list[int], list[Outcome]]]:
        """Rows of samples with their outcomes, in chunks of `CHUNK_SIZE`."""
        rows: list[int] = []
        chunk: list[Outcome] = []
        for number, item in enumerate(outcomes):
            outcome = item.outcome if isinstance(item, Prediction) else item
            if outcome.id not in self.rows:
                self.unknown.append((number, outcome.id))
            elif outcome.id in self.numbers:
                self.duplicates.append((number, outcome.id))
            else:
                self.numbers[outcome.id] = number
                rows.append(self.rows[outcome.id])
                chunk.append(outcome)
            if len(chunk) == CHUNK_SIZE:
                yield rows, chunk
                rows, chunk = [], []
        if chunk:
            yield rows, chunk

    def place(self, name: str, number: int | None = None) -> str:
        """The location of a sample's outcome, or of the outcome with this number."""
        row = self.numbers[name] if number is None else number
        return self.places.of(row, name) if self.places else f"prediction {row + 1}"

    def check_complete(self) -> None:
        """Raises a `UserError` unless each sample has exactly one outcome."""
        first = self.samples[0].id
        if self.unknown and not self.numbers:
            number, name = self.unknown[0]
            raise UserError(
                f"the predictions belong to another dataset: none of the {len(self.unknown)} matches one of these "
                f"{len(self.rows)} samples; the first is {name} ({self.place(name, number)}), the first sample {first}"
            )
        for problem, refused in (("match no sample", self.unknown), ("repeat a sample", self.duplicates)):
            if refused:
                number, name = refused[0]
                raise UserError(f"{len(refused)} predictions {problem}, first {name} ({self.place(name, number)})")
        missing = [sample.id for sample in self.samples if sample.id not in self.numbers]
        if missing:
            source = f" ({self.places.path})" if self.places else ""
            raise UserError(f"{len(missing)} samples have no prediction, first {missing[0]}{source}")


def _count_chunk(
    count: Callable[[Sequence[GroundTruth], Sequence[Encoded]], CountColumns],
    samples: Sequence[Sample],
    chunk: Sequence[Outcome],
    pairing: _Pairing,
) -> CountColumns:
    ground_truths = [GroundTruth.from_sample(sample) for sample in samples]
    try:
        return count(ground_truths, [outcome.mask for outcome in chunk])
    except UserError:
        for ground_truth, outcome in zip(ground_truths, chunk, strict=True):
            try:
                count([ground_truth], [outcome.mask])
            except UserError as error:
                raise UserError(f"the prediction of {outcome.id} ({pairing.place(outcome.id)}): {error}") from error
        raise


def _box_hits(samples: Sequence[Sample], chunk: Sequence[Outcome]) -> Bool[np.ndarray, " n"]:
    """Whether the box of each outcome has an IoU of .5 or more with the box around the ground truth."""
    if not any(outcome.box for outcome in chunk):
        return np.zeros(len(chunk), dtype=bool)
    true = boxes([sample.ground_truth for sample in samples])
    predicted = np.array([outcome.box or (0.0, 0.0, 0.0, 0.0) for outcome in chunk])
    sides = np.minimum(true[:, 2:], predicted[:, 2:]) - np.maximum(true[:, :2], predicted[:, :2])
    intersection = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # the area of a box of 1e300 overflows: no hit
        union = sum((corners[:, 2:] - corners[:, :2]).prod(axis=1) for corners in (true, predicted)) - intersection
    hits: Bool[np.ndarray, " n"] = (union > 0) & (intersection >= 0.5 * union)
    return hits
