"""Where the IoU of expressions was lost, as exact fractions, summed and shown. Knows no model and draws nothing.

The terms of an entry add up to its loss, 1 - IoU, to the last digit, and so do sums of entries. A term may be negative:
mending that stage alone made the mask worse.

One record; stages that lost nothing are left out:

    {"version": 1, "id": "refcoco-unc-5342-15215", "iou": "3/4", "lost": {"loose box": "1/3", "segmenter": "-1/12"}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.metrics import Profile, Truth, profile_named
from sam4mllm.evaluation.oracle_swaps import FAILED, SEGMENTER, STAGES, STATES, swapped
from sam4mllm.evaluation.pairing import Places, tally
from sam4mllm.evaluation.scores import markdown
from sam4mllm.evaluation.subsets import Stratum
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.rle import Rle, union
from sam4mllm.prediction.record import FOREIGN, Prediction
from sam4mllm.segmenters import Segmenter

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


ALIKE = Fraction(1, 100)  # machines differ by less in the IoU of one prompt


def diagnose(
    samples: SampleSet,
    predictions: Sequence[Prediction],
    segmenter: Segmenter,
    profile: str,
    advance: Callable[[], None] = lambda: None,
    places: Places | None = None,
) -> list[Entry]:
    """One entry for each sample, in their order; each picture is read and embedded once, if anything is drawn in it.

    Args:
        samples: with the truth; one picture is held at a time.
        predictions: one for each sample and no others, in any order.
        segmenter: that drew the predictions.
        profile: whose rules count pixels and say what an empty mask is worth, a key of `metrics.PROFILES`.
        advance: called after each sample.
        places: where the predictions stand, for messages.

    Raises:
        UserError: as `tally` does; for a picture that cannot be read although it was answered; for prompts that the
            segmenter cannot take.
    """
    tally(samples.samples, predictions, profile, places)
    rules, said = profile_named(profile), {one.id: one for one in predictions}
    found: dict[str, Entry] = {}
    for some in samples.by_picture():
        states = {one.id: swapped(one, said[one.id]) for one in some if said[one.id].error is None}
        drawn = _drawn(some, states, segmenter)
        for sample in some:
            found[sample.id] = _entry(sample, said[sample.id], states.get(sample.id), drawn, rules)
            advance()
    return [found[sample.id] for sample in samples]


def _drawn(
    some: SampleSet, states: Mapping[str, Sequence[tuple[Prompt, ...]]], segmenter: Segmenter
) -> dict[Prompt, Rle]:
    """The mask of each prompt of one picture; equal ones are drawn once."""
    prompts = list(dict.fromkeys(prompt for each in states.values() for state in each for prompt in state))
    if not prompts:
        return {}
    scene = segmenter.embed(some.picture(*some))
    return {prompt: Rle.from_mask(one.mask) for prompt, one in zip(prompts, scene.segment(prompts), strict=True)}


def _entry(
    sample: Sample,
    prediction: Prediction,
    states: Sequence[tuple[Prompt, ...]] | None,
    drawn: Mapping[Prompt, Rle],
    rules: Profile,
) -> Entry:
    """The difference of each two IoUs in a row; the last is what is missing to 1."""
    size = sample.height, sample.width
    redrawn = [union([drawn[prompt] for prompt in state], *size) for state in states or ()]
    first, *rest = _ious(sample, [prediction.counted, *redrawn], rules)
    ends = [*rest, Fraction(1)]
    stages = (*STATES, SEGMENTER) if states is not None else (FAILED,)
    terms = [after - before for before, after in zip([first, *rest], ends, strict=True)]
    return Entry(sample.id, first, {stage: term for stage, term in zip(stages, terms, strict=True) if term})


def _ious(sample: Sample, masks: Sequence[Rle], rules: Profile) -> list[Fraction]:
    truth = Truth(sample.masks, sample.height, sample.width, sample.ignore)
    pixels = rules.count([truth] * len(masks), [(mask.size, mask.counts) for mask in masks])
    return [rules.iou(counts) for counts in pixels.rows]
