"""Predicts the splits of a protocol and scores their prediction files.

A part without predictions has no scores; a part with missing predictions is an error.

    data/refcoco/val                   samples, as `sam4mllm data` writes them
    out/eval/refcoco/val.jsonl         predictions, as `sam4mllm predict` writes them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import read_samples
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.pairing import EvaluatedSet
from sam4mllm.evaluation.scores import Scores, evaluate_file, scores_of
from sam4mllm.prediction.run import FAILED, predict_set
from sam4mllm.prompters.load import ORACLE
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.runtime.files import check_folder
from sam4mllm.runtime.parallel import Executor, InProcess
from sam4mllm.runtime.progress import progress


@dataclass(frozen=True, slots=True)
class ProtocolScores:
    """Our scores by part, and the reason why a part has no scores."""

    scores: Mapping[str, Scores]
    missing: Mapping[str, str]


def score_protocol(protocol: Protocol, samples: Path, predictions: Path, bootstrap: Bootstrap) -> ProtocolScores:
    """Scores every part of a protocol that has predictions.

    Args:
        protocol: gives the parts and the profile.
        samples: root folder of the datasets.
        predictions: root folder of the prediction files.
        bootstrap: settings of the intervals.

    Raises:
        UserError: if predictions do not match the samples of their split one to one.
    """
    evaluated_splits = dict(_evaluate_splits(protocol, samples, predictions))
    scores, missing = {}, {}
    for part in protocol.parts:
        evaluated = evaluated_splits[part.split]
        if not isinstance(evaluated, str):
            evaluated = _select_kind(evaluated, part.kind)
        if isinstance(evaluated, str):
            missing[part.name] = evaluated
        else:
            scores[part.name] = scores_of(evaluated, bootstrap)
    return ProtocolScores(scores, missing)


def predictions_file(predictions: Path, split: str) -> Path:
    """The prediction file of a split, which may not exist."""
    return predictions / f"{split}.jsonl"


def _evaluate_splits(protocol: Protocol, samples: Path, predictions: Path) -> Iterator[tuple[str, EvaluatedSet | str]]:
    """Yields each split with its evaluated samples, or with the reason why there are none."""
    for split in protocol.splits:
        folder, file = samples / split, predictions_file(predictions, split)
        if not file.exists():
            yield split, f"no predictions at {file}"
        elif not folder.is_dir():
            raise UserError(f"there are predictions at {file}, but no samples at {folder}")
        else:
            try:
                yield split, evaluate_file(read_samples(folder).samples, file, protocol.profile)
            except UserError as error:
                raise UserError(f"{split}: {error}") from error


def _select_kind(evaluated: EvaluatedSet, kind: str | None) -> EvaluatedSet | str:
    rows = [row for row, sample in enumerate(evaluated.samples) if kind in (None, sample.kind)]
    return evaluated.select(np.array(rows, dtype=np.int64)) if rows else f"none of the samples is a {kind}"


def predict_missing(
    protocol: Protocol,
    recipe: PipelineConfig,
    samples: Path,
    predictions: Path,
    batch_size: int,
    executor: Executor,
    retry_failed: bool,
) -> None:
    """Predicts every split that has samples. Existing predictions are kept, and stopped runs are resumed.

    Raises:
        UserError: if there are no samples of the protocol; as `predict_set` does.
    """
    splits = [split for split in protocol.splits if (samples / split).is_dir()]
    if not splits:
        raise UserError(f"no samples of {protocol.name} in {samples}: prepare one of {', '.join(protocol.splits)}")
    recipe.check(has_ground_truth=True)
    check_folder(predictions)
    # the oracle needs the samples of its split and loads no MLLM; workers load their own models
    shared = recipe.build() if isinstance(executor, InProcess) and recipe.prompter != ORACLE else None
    for split in splits:
        split_samples, file = read_samples(samples / split), predictions_file(predictions, split)
        typer.echo(f"{split}: {len(split_samples)} samples", err=True)
        errors = predict_set(
            recipe, split_samples, file, batch_size, progress, shared, executor, retry_failed=retry_failed
        )
        if errors:
            typer.echo(f"{split}: {len(errors)} failed: {FAILED}; the first: {errors[0]}", err=True)
