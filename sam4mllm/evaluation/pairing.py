"""Pairs samples with predictions and counts pixels: the `EvaluatedSet` that metrics, intervals and subsets are made of.

Every sample needs exactly one prediction of its own size, or nothing is counted. Reads no files.

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
from sam4mllm.evaluation.bootstrap import Ratio, numbered
from sam4mllm.evaluation.counts import CountColumns, GroundTruth
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.subsets import Subsets
from sam4mllm.geometry.rle import Encoded, boxes
from sam4mllm.prediction.record import Outcome, Prediction

BOX = "box Acc@0.5"
LOT = 100


@dataclass(frozen=True, slots=True)
class Places:
    """Where outcomes are stored, for messages.

    Attributes:
        path: the file or folder of all of them.
        each: what one of them is in a file: ``line``, ``entry``.
        named: the file name of a sample's id, if each outcome has its own file.
    """

    path: Path
    each: str = "line"
    named: Callable[[str], str] | None = None

    def of(self, number: int, name: str) -> str:
        """The place of one outcome, by its number from 0 on and its sample's id."""
        return str(self.path / self.named(name)) if self.named else f"{self.path}, {self.each} {number + 1}"


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedSet:
    """Samples with the pixel counts and flags of their predictions, in the order of the samples.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        samples: the expressions.
        pixels: counted by the profile.
        hits: whether the first predicted box has an IoU of .5 or more with the box around the true mask.
        unreadable: whether a reply was neither boxes nor "none".
        failed: whether there is an error in place of an answer.
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

    def select(self, rows: Int64[np.ndarray, " some"]) -> EvaluatedSet:
        """The expressions of these rows."""
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
        return numbered([sample.image for sample in self.samples])


def evaluate_set(
    samples: Sequence[Sample], outcomes: Iterable[Outcome | Prediction], profile: str, places: Places | None = None
) -> EvaluatedSet:
    """Pairs each sample with its outcome and counts pixels, one lot of outcomes at a time.

    Args:
        samples: with ground truth.
        outcomes: one for each sample and no others, in any order.
        profile: a key of `metrics.PROFILES`.
        places: where the outcomes are stored, for messages.

    Raises:
        UserError: if the profile is unknown; if samples have no outcome, or outcomes no sample, or a sample more than
            one (how many, and the first); if a mask has another size or is damaged; if there are no samples.
    """
    if not samples:
        raise UserError("there is nothing to score: no samples")
    count, pairing = profile_named(profile).count, _Pairing(samples, places)
    pixels, hits = CountColumns.empty(len(samples)), np.zeros(len(samples), dtype=bool)
    flags = np.zeros((4, len(samples)), dtype=bool)
    for rows, lot in pairing.lots(outcomes):
        lot_samples = [samples[row] for row in rows]
        pixels.put(np.array(rows), _count_lot(count, lot_samples, lot, pairing))
        hits[rows] = _box_hits(lot_samples, lot)
        flags[:, rows] = np.array(
            [(not outcome.readable, outcome.failed, outcome.oracle, outcome.boxed) for outcome in lot]
        ).T
    pairing.check_complete()
    return EvaluatedSet(profile, tuple(samples), pixels, hits, *flags)


def by_label(evaluated: EvaluatedSet, subsets: Subsets) -> dict[str, EvaluatedSet]:
    """Divides a set into subsets by label, in their order; labels without a sample are left out."""
    labels = [subsets.label_of(sample) for sample in evaluated.samples]
    rows = {name: [row for row, label in enumerate(labels) if label == name] for name in subsets.labels}
    return {label: evaluated.select(np.array(indices, dtype=np.int64)) for label, indices in rows.items() if indices}


class _Pairing:
    """Which samples have had their outcome, and which outcomes do not belong."""

    def __init__(self, samples: Sequence[Sample], places: Places | None) -> None:
        self.samples, self.places = samples, places
        self.rows = {sample.id: row for row, sample in enumerate(samples)}
        self.numbers: dict[str, int] = {}
        self.unknown: list[tuple[int, str]] = []
        self.again: list[tuple[int, str]] = []

    def lots(self, outcomes: Iterable[Outcome | Prediction]) -> Iterator[tuple[list[int], list[Outcome]]]:
        """Rows of samples with their outcomes, in lots that fit in the processor's cache."""
        rows: list[int] = []
        lot: list[Outcome] = []
        for number, item in enumerate(outcomes):
            outcome = item.outcome if isinstance(item, Prediction) else item
            if outcome.id not in self.rows:
                self.unknown.append((number, outcome.id))
            elif outcome.id in self.numbers:
                self.again.append((number, outcome.id))
            else:
                self.numbers[outcome.id] = number
                rows.append(self.rows[outcome.id])
                lot.append(outcome)
            if len(lot) == LOT:
                yield rows, lot
                rows, lot = [], []
        if lot:
            yield rows, lot

    def place(self, name: str, number: int | None = None) -> str:
        """The place of a sample's outcome, or of another outcome with that id."""
        row = self.numbers[name] if number is None else number
        return self.places.of(row, name) if self.places else f"prediction {row + 1}"

    def check_complete(self) -> None:
        """Refuses anything but one outcome for each sample."""
        first = self.samples[0].id
        if self.unknown and not self.numbers:
            number, name = self.unknown[0]
            raise UserError(
                f"the predictions are of another set: none of the {len(self.unknown)} is of these {len(self.rows)} "
                f"samples, the first is {name} ({self.place(name, number)}), where {first} is due"
            )
        for what, wrong in (("of no sample", self.unknown), ("of samples that have one already", self.again)):
            if wrong:
                number, name = wrong[0]
                raise UserError(
                    f"{len(wrong)} predictions are {what}, the first is {name} ({self.place(name, number)})"
                )
        missing = [sample.id for sample in self.samples if sample.id not in self.numbers]
        if missing:
            where = f" ({self.places.path})" if self.places else ""
            raise UserError(f"{len(missing)} samples have no prediction, the first is {missing[0]}{where}")


def _count_lot(
    count: Callable[[Sequence[GroundTruth], Sequence[Encoded]], CountColumns],
    samples: Sequence[Sample],
    lot: Sequence[Outcome],
    pairing: _Pairing,
) -> CountColumns:
    truths = [GroundTruth(sample.masks, sample.height, sample.width, sample.ignore) for sample in samples]
    try:
        return count(truths, [outcome.mask for outcome in lot])
    except UserError:
        for truth, outcome in zip(truths, lot, strict=True):
            try:
                count([truth], [outcome.mask])
            except UserError as error:
                raise UserError(f"the prediction of {outcome.id} ({pairing.place(outcome.id)}): {error}") from error
        raise


def _box_hits(samples: Sequence[Sample], lot: Sequence[Outcome]) -> Bool[np.ndarray, " n"]:
    """Whether the box of each outcome has an IoU of .5 or more with the box around the ground truth."""
    if not any(outcome.box for outcome in lot):
        return np.zeros(len(lot), dtype=bool)
    true = boxes([sample.truth for sample in samples])
    predicted = np.array([outcome.box or (0.0, 0.0, 0.0, 0.0) for outcome in lot])
    sides = np.minimum(true[:, 2:], predicted[:, 2:]) - np.maximum(true[:, :2], predicted[:, :2])
    intersection = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # a box of 1e300 has no area in floats, and is no hit
        union = sum((corners[:, 2:] - corners[:, :2]).prod(axis=1) for corners in (true, predicted)) - intersection
    hits: Bool[np.ndarray, " n"] = (union > 0) & (intersection >= 0.5 * union)
    return hits
