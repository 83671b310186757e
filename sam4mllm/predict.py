"""From samples to predictions: every sample is answered or its failure recorded, one line each, in order.

A run that was stopped goes on where it stopped and ends in the same bytes: batches are cut at fixed places, so a
sample always has the same neighbours. Knows nothing of truth and numbers; those are `score`'s.

Beside ``predictions.jsonl`` lie ``predictions.settings.json`` (what made them, so that two models never share a file)
and ``predictions.timings.jsonl`` (seconds by stage, of no two runs alike).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sam4mllm.atomic import write_text
from sam4mllm.errors import UserError
from sam4mllm.geometry import Image
from sam4mllm.images import read_image
from sam4mllm.pipeline import Answer, Pipeline, drawn
from sam4mllm.predictions import Lines, Prediction, read_whole
from sam4mllm.prompters import Prompting, Query
from sam4mllm.rle import Rle
from sam4mllm.samples import Sample, SampleSet

T = TypeVar("T")
R = TypeVar("R")
_LONGEST_REASON = 300
SETTINGS = ".settings.json"  # in place of the predictions' own suffix


def predict(
    samples: SampleSet,
    pipeline: Pipeline,
    out: Path,
    *,
    batch_size: int = 4,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Prediction], None] | None = None,
) -> None:
    """Make ``out`` hold one prediction per sample, in their order; what it holds already is kept.

    A sample that fails (a picture that cannot be read, a segmenter's error) has an empty mask and its error; the
    others of its batch are not touched by it.

    Args:
        samples: what to answer.
        pipeline: what answers.
        out: a JSON Lines file, made if need be.
        batch_size: how many samples the model is asked about at once, 1 or more.
        settings: what the pipeline was built of, as JSON; kept beside ``out`` and compared when a run goes on.
        progress: told of every prediction in order, also of those that were there already.

    Raises:
        UserError: where ``out`` holds something else, or cannot be written; lines that were written stay.
    """
    if batch_size < 1:
        raise UserError(f"the batch size is 1 or more, got {batch_size}")
    tell = progress or _nobody
    there, kept = _there(out, samples)
    if settings is not None:
        _note(out.with_suffix(SETTINGS), settings, going_on=bool(there))
    for prediction in there:
        tell(prediction)
    times = out.with_suffix(".timings.jsonl")
    with Lines(out, kept) as lines, Lines(times, _whole(times) if there else 0) as timings:
        for start in range(0, len(samples), batch_size):
            batch = samples.samples[start : start + batch_size]
            if start + len(batch) <= len(there):
                continue
            for prediction, seconds in _predicted(samples, batch, pipeline)[max(len(there) - start, 0) :]:
                lines.append(prediction.to_line())
                timings.append(json.dumps({"id": prediction.id, "seconds": dict(seconds)}))
                tell(prediction)


def settings_of(out: Path) -> dict[str, Any]:
    """What ``out`` was made with, as `predict` noted it beside it; nothing where that is not there.

    Raises:
        UserError: for a note that is no JSON object.
    """
    path = out.with_suffix(SETTINGS)
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} does not say what made the predictions: {error}") from error


def _nobody(prediction: Prediction) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why one of many could not be done."""

    reason: str


def _predicted(
    samples: SampleSet, batch: Sequence[Sample], pipeline: Pipeline
) -> list[tuple[Prediction, Mapping[str, float]]]:
    """The predictions of one batch, and each one's seconds by stage."""

    def draw(some: Sequence[tuple[Query, Prompting]]) -> list[Answer]:
        return drawn(pipeline.segmenter, [query for query, _ in some], [prompting for _, prompting in some])

    paths = list(dict.fromkeys(samples.path(sample) for sample in batch))
    images = dict(zip(paths, _each(lambda some: [read_image(path) for path in some], paths), strict=True))
    queries = [_query(sample, images[samples.path(sample)]) for sample in batch]
    promptings = _each(pipeline.prompter, queries)
    pairs = [
        query if isinstance(query, _Failed) else prompting if isinstance(prompting, _Failed) else (query, prompting)
        for query, prompting in zip(queries, promptings, strict=True)
    ]
    return [
        (_prediction(sample, prompting, answer), {} if isinstance(answer, _Failed) else answer.timings)
        for sample, prompting, answer in zip(batch, promptings, _each(draw, pairs), strict=True)
    ]


def _query(sample: Sample, image: Image | _Failed) -> Query | _Failed:
    """The sample's question; two samples about one picture share the array, so it is embedded once."""
    if isinstance(image, _Failed):
        return image
    if image.shape[:2] != (sample.height, sample.width):
        found = f"{image.shape[1]} x {image.shape[0]}"
        return _Failed(f"the picture is {found} pixels, its sample says {sample.width} x {sample.height}")
    if not sample.phrase.strip():
        return _Failed("the phrase is empty")
    return Query(image, sample.phrase, sample.id)


def _prediction(sample: Sample, prompting: Prompting | _Failed, answer: Answer | _Failed) -> Prediction:
    """What is known of the sample: a failed segmenter leaves the prompts, a failed prompter nothing."""
    known = Prompting(()) if isinstance(prompting, _Failed) else prompting
    return Prediction(
        sample.id,
        known.prompts,
        Rle.empty(sample.height, sample.width) if isinstance(answer, _Failed) else Rle.from_mask(answer.mask),
        known.replies,
        known.readable,
        known.asked,
        answer.reason if isinstance(answer, _Failed) else None,
        known.oracle,
    )


def _each(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T | _Failed]) -> list[R | _Failed]:
    """The call's result for each item, in order; those that failed before are passed on."""
    results = iter(_tried(call, [item for item in items if not isinstance(item, _Failed)]))
    return [item if isinstance(item, _Failed) else next(results) for item in items]


def _tried(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | _Failed]:
    """All items in one call; where that fails, each alone, so that one does not take the others with it."""
    if not items:
        return []
    try:
        return list(call(items))
    except Exception as error:  # whatever a model stumbles over is this sample's failure, not the run's
        if len(items) == 1:
            return [_Failed(_reason(error))]
    return [result for item in items for result in _tried(call, [item])]


def _reason(error: Exception) -> str:
    """One line of bounded length; the type too, where it is not written for the user."""
    said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:_LONGEST_REASON]


def _there(out: Path, samples: SampleSet) -> tuple[list[Prediction], int]:
    """The predictions that a stopped run left, and the bytes of their whole lines."""
    if not out.exists():
        return [], 0
    there, kept = read_whole(out)
    if len(there) > len(samples):
        raise UserError(f"{out} holds {len(there)} predictions for {len(samples)} samples: it is of another set")
    for prediction, sample in zip(there, samples, strict=False):
        if prediction.id != sample.id:
            raise UserError(f"{out} is of another set: it holds {prediction.id} where {sample.id} is due")
    return there, kept


def _note(path: Path, settings: Mapping[str, Any], going_on: bool) -> None:
    """Keep the settings, or see that a run goes on with those it began with."""
    text = json.dumps(settings, indent=2) + "\n"
    if going_on and path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"the predictions were begun with other settings, see {path}: give those, or another file")
    write_text(path, text)


def _whole(path: Path) -> int:
    """The bytes of a file's whole lines."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
