"""Samples and their predictions, paired and counted: all that numbers, intervals and strata are made of.

Nothing is counted unless every sample has exactly one prediction of its own size. Knows nothing of files.

    >>> tally(samples, predictions, "rela").ratios["gIoU"].value
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
from sam4mllm.evaluation.metrics import Pixels, Truth, profile_named
from sam4mllm.evaluation.subsets import Stratum
from sam4mllm.geometry.rle import Encoded, boxes
from sam4mllm.prediction.record import Outcome, Prediction

BOX = "box Acc@0.5"
LOT = 100


@dataclass(frozen=True, slots=True)
class Places:
    """Where outcomes stand, for messages.

    Attributes:
        path: of all of them.
        each: what one of them is there: ``line``, ``entry``.
        named: the name of the file of a sample's id, where each has its own.
    """

    path: Path
    each: str = "line"
    named: Callable[[str], str] | None = None

    def of(self, number: int, name: str) -> str:
        """Where the outcome of a number, from 0 on, and of a sample's id stands."""
        return str(self.path / self.named(name)) if self.named else f"{self.path}, {self.each} {number + 1}"


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What is known of each expression, in the order of the samples.

    Attributes:
        profile: whose conventions, a key of `metrics.PROFILES`.
        samples: the expressions.
        pixels: counted by the profile.
        hits: whether the first predicted box has an IoU of .5 or more with the box around the true mask.
        unreadable: whether a reply was neither places nor "none".
        failed: whether there is an error in place of an answer.
        oracle: whether the prompts were made from the truth.
        boxed: whether it is known which boxes were predicted.
    """

    profile: str
    samples: tuple[Sample, ...]
    pixels: Pixels
    hits: Bool[np.ndarray, " n"]
    unreadable: Bool[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    oracle: Bool[np.ndarray, " n"]
    boxed: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.samples)

    def of(self, rows: Int64[np.ndarray, " some"]) -> Tally:
        """Some of the expressions."""
        return Tally(
            self.profile,
            tuple(self.samples[row] for row in rows.tolist()),
            self.pixels[rows],
            *(each[rows] for each in (self.hits, self.unreadable, self.failed, self.oracle, self.boxed)),
        )

    @property
    def ratios(self) -> dict[str, Ratio]:
        """The profile's numbers, and of expressions with one target and known boxes the share found (Acc@0.5)."""
        held = self.boxed & np.array([len(sample.masks) == 1 for sample in self.samples], dtype=bool)
        return {**profile_named(self.profile).ratios(self.pixels), BOX: Ratio((self.hits & held) * 1, held * 1)}

    @property
    def pictures(self) -> Int64[np.ndarray, " n"]:
        """The number of each one's picture."""
        return numbered([sample.image for sample in self.samples])


def tally(
    samples: Sequence[Sample], outcomes: Iterable[Outcome | Prediction], profile: str, places: Places | None = None
) -> Tally:
    """Outcomes, one for each sample and no others, in any order, paired and counted as they come.

    Args:
        samples: with the truth.
        outcomes: of predictions as `predict` makes them, or of any masks.
        profile: a key of `metrics.PROFILES`.
        places: where the outcomes stand, for messages.

    Raises:
        UserError: for an unknown profile; for samples without an outcome, outcomes without a sample or more than one
            for a sample (how many, and the first); for a mask of another size, or none; for no samples.
    """
    if not samples:
        raise UserError("there is nothing to score: no samples")
    counting, begun = profile_named(profile).count, _Begun(samples, places)
    pixels, hits = Pixels.empty(len(samples)), np.zeros(len(samples), dtype=bool)
    flags = np.zeros((4, len(samples)), dtype=bool)
    for rows, lot in begun.lots(outcomes):
        some = [samples[row] for row in rows]
        pixels.put(np.array(rows), _counted(counting, some, lot, begun))
        hits[rows] = _hits(some, lot)
        flags[:, rows] = np.array([(not one.readable, one.failed, one.oracle, one.boxed) for one in lot]).T
    begun.finish()
    return Tally(profile, tuple(samples), pixels, hits, *flags)


def by_label(whole: Tally, stratum: Stratum) -> dict[str, Tally]:
    """The expressions of each label, in the stratum's order; labels that none has are left out."""
    labels = [stratum.of(sample) for sample in whole.samples]
    rows = {label: [row for row, own in enumerate(labels) if own == label] for label in stratum.labels}
    return {label: whole.of(np.array(some, dtype=np.int64)) for label, some in rows.items() if some}


class _Begun:
    """Which samples have had their outcome, and what was amiss with the others."""

    def __init__(self, samples: Sequence[Sample], places: Places | None) -> None:
        self.samples, self.places = samples, places
        self.rows = {sample.id: row for row, sample in enumerate(samples)}
        self.numbers: dict[str, int] = {}
        self.unknown: list[tuple[int, str]] = []
        self.again: list[tuple[int, str]] = []

    def lots(self, outcomes: Iterable[Outcome | Prediction]) -> Iterator[tuple[list[int], list[Outcome]]]:
        """The rows of some samples, and their outcomes: few enough to stay in the processor's cache."""
        rows: list[int] = []
        lot: list[Outcome] = []
        for number, given in enumerate(outcomes):
            one = given.outcome if isinstance(given, Prediction) else given
            if one.id not in self.rows:
                self.unknown.append((number, one.id))
            elif one.id in self.numbers:
                self.again.append((number, one.id))
            else:
                self.numbers[one.id] = number
                rows.append(self.rows[one.id])
                lot.append(one)
            if len(lot) == LOT:
                yield rows, lot
                rows, lot = [], []
        if lot:
            yield rows, lot

    def place(self, name: str, number: int | None = None) -> str:
        """Of a sample's outcome, or of another one with that id."""
        row = self.numbers[name] if number is None else number
        return self.places.of(row, name) if self.places else f"prediction {row + 1}"

    def finish(self) -> None:
        """Refuse anything but one outcome for each sample."""
        first = self.samples[0].id
        if self.unknown and not self.numbers:
            number, name = self.unknown[0]
            raise UserError(
                f"the predictions are of another set: none of the {len(self.unknown)} is of these {len(self.rows)} "
                f"samples, the first is {name} ({self.place(name, number)}), where {first} is due"
            )
        for what, found in (("of no sample", self.unknown), ("of samples that have one already", self.again)):
            if found:
                number, name = found[0]
                raise UserError(
                    f"{len(found)} predictions are {what}, the first is {name} ({self.place(name, number)})"
                )
        missing = [sample.id for sample in self.samples if sample.id not in self.numbers]
        if missing:
            there = f" ({self.places.path})" if self.places else ""
            raise UserError(f"{len(missing)} samples have no prediction, the first is {missing[0]}{there}")


def _counted(
    counting: Callable[[Sequence[Truth], Sequence[Encoded]], Pixels],
    samples: Sequence[Sample],
    lot: Sequence[Outcome],
    begun: _Begun,
) -> Pixels:
    truths = [Truth(sample.masks, sample.height, sample.width, sample.ignore) for sample in samples]
    try:
        return counting(truths, [one.mask for one in lot])
    except UserError:
        for truth, one in zip(truths, lot, strict=True):
            try:
                counting([truth], [one.mask])
            except UserError as error:
                raise UserError(f"the prediction of {one.id} ({begun.place(one.id)}): {error}") from error
        raise


def _hits(samples: Sequence[Sample], lot: Sequence[Outcome]) -> Bool[np.ndarray, " n"]:
    """Whether the box of each outcome has an IoU of .5 or more with the one around the truth."""
    if not any(one.box for one in lot):
        return np.zeros(len(lot), dtype=bool)
    true = boxes([sample.truth for sample in samples])
    said = np.array([one.box or (0.0, 0.0, 0.0, 0.0) for one in lot])
    sides = np.minimum(true[:, 2:], said[:, 2:]) - np.maximum(true[:, :2], said[:, :2])
    both = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # a box of 1e300 has no area in floats, and is no hit
        whole = sum((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (true, said)) - both
    hits: Bool[np.ndarray, " n"] = (whole > 0) & (both >= 0.5 * whole)
    return hits
