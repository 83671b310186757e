"""What a protocol is: parts of sets, the profile that counts them, and the numbers that its papers print.

Our numbers are measured from files, or not there: a part without predictions has none, and one with too few of them is
an error. Knows no method and no table.

    data/refcoco/val                   the samples, as data_prep leaves them
    out/eval/refcoco/val.jsonl         the predictions, as `sam4mllm predict` leaves them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.data.samples import read_samples
from sam4mllm.evaluation.scores import Scores, scores_of
from sam4mllm.evaluation.score_run import count_at
from sam4mllm.evaluation.pairing import Tally


@dataclass(frozen=True, slots=True)
class Part:
    """A column of a protocol's table.

    Attributes:
        name: as papers print it.
        place: the set and the split, which name the folder of samples and the file of predictions.
        kind: of the samples that are part of it, ``phrase`` or ``sentence``; all where None.
    """

    name: str
    place: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """A benchmark of the field.

    Attributes:
        name: of its file here, and of its rows in `published.yaml`.
        title: what it is, and whose evaluation counts it.
        profile: a key of `sam4mllm.evaluation.metrics.PROFILES`.
        metrics: the numbers that its papers print.
        parts: in the order of their tables.
    """

    name: str
    title: str
    profile: str
    metrics: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def places(self) -> list[str]:
        """Every set and split once, in order."""
        return list(dict.fromkeys(part.place for part in self.parts))


@dataclass(frozen=True, slots=True)
class Measured:
    """Our numbers by part, and for each part without numbers why."""

    scores: Mapping[str, Scores]
    missing: Mapping[str, str]


def measured(protocol: Protocol, samples: Path, predictions: Path, bootstrap: Bootstrap) -> Measured:
    """Our numbers of every part that was predicted.

    Args:
        protocol: which parts.
        samples: the root of the sets.
        predictions: the root of the files of predictions.
        bootstrap: of the intervals.

    Raises:
        UserError: for predictions that are not of exactly the samples of their split.
    """
    found = dict(_counted(protocol, samples, predictions))
    scores, missing = {}, {}
    for part in protocol.parts:
        counted = found[part.place]
        some = counted if isinstance(counted, str) else _of_kind(counted, part.kind)
        if isinstance(some, str):
            missing[part.name] = some
        else:
            scores[part.name] = scores_of(some, bootstrap)
    return Measured(scores, missing)


def samples_at(samples: Path, place: str) -> Path | None:
    """The folder of samples of a set's split, if it is there."""
    folder = samples / place
    return folder if folder.is_dir() else None


def predictions_at(predictions: Path, place: str) -> Path:
    """The file of predictions of a set's split, which need not be there."""
    return predictions / f"{place}.jsonl"


def _counted(protocol: Protocol, samples: Path, predictions: Path) -> Iterator[tuple[str, Tally | str]]:
    """Each place with what was counted, or why nothing was."""
    for place in protocol.places:
        folder, file = samples_at(samples, place), predictions_at(predictions, place)
        if not file.exists():
            yield place, f"no predictions at {file}"
        elif folder is None:
            raise UserError(f"there are predictions at {file}, but no samples at {samples / place}")
        else:
            try:
                yield place, count_at(read_samples(folder).samples, file, protocol.profile)
            except UserError as error:
                raise UserError(f"{place}: {error}") from error


def _of_kind(counted: Tally, kind: str | None) -> Tally | str:
    rows = [row for row, sample in enumerate(counted.samples) if kind in (None, sample.kind)]
    return counted.of(np.array(rows, dtype=np.int64)) if rows else f"none of the samples is a {kind}"
