"""Our numbers of a protocol: predicted where that is asked for, else measured from files, or not there.

A part without predictions has no numbers, and one with too few of them is an error. Knows no table.

    data/refcoco/val                   the samples, as `sam4mllm data` leaves them
    out/eval/refcoco/val.jsonl         the predictions, as `sam4mllm predict` leaves them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from sam4mllm.config import Recipe
from sam4mllm.data.samples import read_samples
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.pairing import EvaluatedSet
from sam4mllm.evaluation.scores import Scores, count_at, scores_of
from sam4mllm.prediction.run import FAILED, predict_set
from sam4mllm.prompters.load import ORACLE
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.runtime.files import check_folder
from sam4mllm.runtime.parallel import Executor, InProcess
from sam4mllm.runtime.progress import progress


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


def _counted(protocol: Protocol, samples: Path, predictions: Path) -> Iterator[tuple[str, EvaluatedSet | str]]:
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


def _of_kind(counted: EvaluatedSet, kind: str | None) -> EvaluatedSet | str:
    rows = [row for row, sample in enumerate(counted.samples) if kind in (None, sample.kind)]
    return counted.select(np.array(rows, dtype=np.int64)) if rows else f"none of the samples is a {kind}"


def predict_missing(
    protocol: Protocol,
    recipe: Recipe,
    samples: Path,
    predictions: Path,
    batch_size: int,
    executor: Executor,
    retry_failed: bool,
) -> None:
    """Predict every split whose samples are there; what a stopped run left is gone on with, what is done is kept.

    Raises:
        UserError: where none of the protocol's samples are there; as `predict_set` does.
    """
    there = {place: folder for place in protocol.places if (folder := samples_at(samples, place)) is not None}
    if not there:
        raise UserError(f"none of the samples of {protocol.name} are below {samples}: {', '.join(protocol.places)}")
    recipe.check(truth=True)
    check_folder(predictions)
    # an oracle is of its samples, and loads no MLLM; workers load their own
    shared = recipe.build() if isinstance(executor, InProcess) and recipe.prompter != ORACLE else None
    for place, folder in there.items():
        asked = read_samples(folder)
        typer.echo(f"{place}: {len(asked)} samples", err=True)
        errors = predict_set(
            recipe,
            asked,
            predictions_at(predictions, place),
            batch_size,
            progress,
            shared,
            executor,
            retry_failed=retry_failed,
        )
        if errors:
            typer.echo(f"{place}: {len(errors)} failed, {FAILED}; the first: {errors[0]}", err=True)
