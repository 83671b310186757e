"""Where the IoU of expressions was lost, as exact fractions, summed and shown. Knows no model and draws nothing.

The terms of an entry add up to its loss, 1 - IoU, to the last digit, and so do sums of entries. A term may be negative:
mending that stage alone made the mask worse.

One record; stages that lost nothing are left out:

    {"version": 1, "id": "refcoco-unc-5342-15215", "iou": "3/4", "lost": {"loose box": "1/3", "segmenter": "-1/12"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sam4mllm.errors import UserError
from sam4mllm.prediction.record import FOREIGN
from sam4mllm.evaluation.scores import markdown
from sam4mllm.evaluation.subsets import Stratum
from sam4mllm.evaluation.oracle_swaps import STAGES

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one expression's IoU was lost.

    Attributes:
        id: the sample's.
        iou: of its mask as it was predicted, by a profile's rules and without its epsilon.
        lost: by stage, in the order of `STAGES`; those that are not there lost nothing.

    Raises:
        UserError: for terms that do not add up to 1 - IoU, and unknown stages.
    """

    id: str
    iou: Fraction
    lost: Mapping[str, Fraction]

    def __post_init__(self) -> None:
        if sum(self.lost.values()) != 1 - self.iou or not set(self.lost) <= set(STAGES):
            raise UserError(f"the ledger of {self.id} does not add up to its loss")

    @property
    def loss(self) -> Fraction:
        """1 - IoU."""
        return 1 - self.iou

    def to_line(self) -> str:
        """The record as one line of JSON."""
        lost = {stage: str(self.lost[stage]) for stage in STAGES if self.lost.get(stage)}
        return json.dumps({"version": VERSION, "id": self.id, "iou": str(self.iou), "lost": lost})

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """From a line as `to_line` writes it.

        Raises:
            UserError: for anything else, or a record of a newer version.
        """
        try:
            record = json.loads(line)
            version, lost = record["version"], record["lost"]
            if version <= VERSION:
                terms = {str(stage): Fraction(term) for stage, term in lost.items()}
                return cls(str(record["id"]), Fraction(record["iou"]), terms)
        except (*FOREIGN, ZeroDivisionError) as error:
            raise UserError(f"no record of a diagnosis: {type(error).__name__}: {error}") from error
        raise UserError(f"a diagnosis of version {version}; this sam4mllm reads up to {VERSION}")


def read_ledger(path: Path) -> list[Entry]:
    """All entries of a file.

    Raises:
        UserError: for a file that cannot be read, naming the line that is no entry.
    """
    entries = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            entries.append(Entry.from_line(line.decode(errors="replace")))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    return entries


def means(entries: Sequence[Entry]) -> dict[str, Fraction]:
    """The mean that each stage lost, of one entry or more: exactly, so that they add up to the mean loss."""
    return {stage: added([one.lost.get(stage, Fraction()) for one in entries]) / len(entries) for stage in STAGES}


def added(terms: Sequence[Fraction]) -> Fraction:
    """The sum: in halves, for the denominators grow with every term, and so the work one by one with the square."""
    if len(terms) < 3:
        return sum(terms, Fraction())
    middle = len(terms) // 2
    return added(terms[:middle]) + added(terms[middle:])


def by_label(entries: Sequence[Entry], labels: Mapping[str, str], stratum: Stratum) -> dict[str, list[Entry]]:
    """The entries of each label, in the stratum's order; labels that none has are left out.

    Args:
        entries: of any samples.
        labels: of each sample, by its id.
        stratum: whose labels they are.
    """
    found = {label: [one for one in entries if labels[one.id] == label] for label in stratum.labels}
    return {label: some for label, some in found.items() if some}


def table(columns: Mapping[str, Sequence[Entry]], what: str = "lost to") -> str:
    """What each stage lost as a Markdown table, a column for each group of entries, in points of mean IoU.

    The lines below the first add up to the last; how many expressions lost or gained there stands beside each.

    Args:
        columns: one entry or more by name.
        what: the stages are.
    """
    found = {name: means(entries) for name, entries in columns.items()}
    lines = [[what, *columns], ["---", *["---:"] * len(columns)]]
    lines.append(["expressions", *(str(len(entries)) for entries in columns.values())])
    lines.append(["mean IoU", *(points(1 - sum(lost.values())) for lost in found.values())])
    for stage in STAGES:
        counts = (touched(entries, stage) for entries in columns.values())
        cells = (signed(lost[stage]) for lost in found.values())
        lines.append([stage, *(f"{cell} ({count})" for cell, count in zip(cells, counts, strict=True))])
    lines.append(["all of the loss", *(points(sum(lost.values())) for lost in found.values())])
    return markdown(lines)


def signed(share: Fraction) -> str:
    """A share in points of 100, with its sign; 0 has none."""
    return f"{100 * float(share):+.2f}" if share else "0"


def points(share: Fraction | int) -> str:
    """A share in points of 100, without a sign."""
    return f"{100 * float(share):.2f}"


def touched(entries: Sequence[Entry], stage: str) -> int:
    """How many lost or gained something there."""
    return sum(bool(one.lost.get(stage)) for one in entries)
