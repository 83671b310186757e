"""Predicts samples in batches. Every sample gets an answer, or a record of its failure.

Samples are sorted so that images of similar size are adjacent. They are split into parts of complete images, and parts
into batches, before finished samples and other shards are left out. So a sample always has the same neighbours, and a
run that was stopped or sharded ends with the same bytes. Each image is read and embedded once for all its phrases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image
from sam4mllm.pipeline import Answer, Pipeline, segment_prompts
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.store import Shard, open_predictions
from sam4mllm.prompters import Prompting, Query
from sam4mllm.runtime.parallel import Executor, InProcess

T = TypeVar("T")
R = TypeVar("R")
TimedPredictions = list[tuple[Prediction, Mapping[str, float]]]
_LONGEST_REASON = 300
BATCHES_PER_PART = 4
"""Batches per part, at most what a killed run loses. Images are not split, so a part's last batch may be smaller."""


def predict(
    samples: SampleSet,
    pipeline: Pipeline,
    out: Path,
    *,
    batch_size: int = 4,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Prediction], None] | None = None,
) -> None:
    """Make ``out`` hold one prediction per sample, in the samples' order. Existing predictions are kept.

    If a sample fails (its image cannot be read, the segmenter raises), its record has an empty mask and the error.
    Other samples of the batch are not affected.

    Args:
        samples: the samples to predict.
        pipeline: the pipeline to run.
        out: a JSON Lines file, created if necessary.
        batch_size: samples per call of the model, 1 or more.
        settings: the pipeline's settings as JSON; written next to ``out`` and compared when a run resumes.
        progress: called with every prediction as it is written, and first with those already in the file.

    Raises:
        UserError: if ``out`` holds something else or cannot be written. Lines that were written remain.
    """
    work = PredictionWork(lambda _: pipeline, batch_size)
    predict_shard(samples, work, InProcess(), out, Shard(), settings=settings, progress=progress)


@dataclass(frozen=True, slots=True)
class PredictionWork:
    """The work of a worker: builds a pipeline on its device and predicts parts.

    Attributes:
        build: builds the pipeline on a device.
        batch_size: samples per call of the model.

    Raises:
        UserError: if the batch size is below 1.
    """

    build: Callable[[str | None], Pipeline]
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"the batch size must be 1 or more, got {self.batch_size}")

    def begin(self, device: str | None) -> Callable[[SampleSet], TimedPredictions]:
        """A function that predicts a part, with its own models."""
        return partial(predict_part, pipeline=self.build(device), batch_size=self.batch_size)


def predict_shard(
    samples: SampleSet,
    work: PredictionWork,
    executor: Executor,
    out: Path,
    shard: Shard,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Prediction], None] | None = None,
    retry_failed: bool = False,
) -> None:
    """Like `predict`, with any executor, or for one shard. A run without a shard takes over the shards' predictions.

    Args:
        samples: the samples of all shards.
        work: builds the pipeline and predicts parts.
        executor: runs the parts.
        out: the file of all samples; a shard's file is next to it.
        shard: the shard to predict.
        settings: as for `predict`, the same for all shards.
        progress: as for `predict`.
        retry_failed: whether to predict samples again that failed in an earlier run.

    Raises:
        UserError: as `predict` and the executor do.
    """
    report = progress or _ignore_progress
    parts = {number: part for number, part in split_into_parts(samples, work.batch_size).items() if shard.owns(number)}
    with open_predictions(samples, out, shard, settings, retry_failed=retry_failed) as file:
        for sample in samples:
            if sample.id in file.existing:
                report(file.existing[sample.id])
        remaining = {
            number: part for number, part in parts.items() if any(sample.id not in file.existing for sample in part)
        }
        for _, predictions in executor.run(work, remaining):
            for prediction, seconds in predictions:
                if prediction.id not in file.existing:
                    file.add(prediction, seconds)
                    report(prediction)


def split_into_parts(samples: SampleSet, batch_size: int) -> dict[int, SampleSet]:
    """The samples by part number, the largest images first; independent of the order of the samples.

    An image with more phrases than fit into a part forms its own part.
    """
    ordered = sorted(
        samples, key=lambda sample: (-sample.height * sample.width, -sample.height, sample.image, sample.id)
    )
    parts: list[list[Sample]] = []
    for image_samples in SampleSet(tuple(ordered), samples.images).by_image():
        if not parts or len(parts[-1]) + len(image_samples) > BATCHES_PER_PART * batch_size:
            parts.append([])
        parts[-1].extend(image_samples)
    return {number: SampleSet(tuple(part), samples.images) for number, part in enumerate(parts)}


def predict_part(part: SampleSet, pipeline: Pipeline, batch_size: int) -> TimedPredictions:
    """The predictions of a part in its order, with the seconds per stage of each."""
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(part):
        rows.setdefault(sample.image, []).append(row)
    paths = {image: part.path(part.samples[image_rows[0]]) for image, image_rows in rows.items()}
    images_or_failures = _map_unfailed(
        lambda image_rows: [read_image(path) for path in image_rows], list(paths.values())
    )
    images = dict(zip(paths, images_or_failures, strict=True))
    queries = [_to_query(sample, images[sample.image]) for sample in part]
    promptings = [
        prompting
        for start in range(0, len(queries), batch_size)
        for prompting in _map_unfailed(pipeline.prompter, queries[start : start + batch_size])
    ]
    answers: list[Answer | _Failed] = [_Failed("") for _ in queries]
    for image_rows in rows.values():
        for row, answer in zip(image_rows, _segment_rows(pipeline, queries, promptings, image_rows), strict=True):
            answers[row] = answer
    return [
        (_to_prediction(sample, prompting, answer), {} if isinstance(answer, _Failed) else answer.timings)
        for sample, prompting, answer in zip(part, promptings, answers, strict=True)
    ]


def _segment_rows(
    pipeline: Pipeline,
    queries: Sequence[Query | _Failed],
    promptings: Sequence[Prompting | _Failed],
    rows: Sequence[int],
) -> list[Answer | _Failed]:
    """The answers for some samples of one image: one embedding and one call of the decoder, unless a sample fails."""

    def draw(prompted: Sequence[tuple[Query, Prompting]]) -> list[Answer]:
        return segment_prompts(
            pipeline.segmenter, [query for query, _ in prompted], [prompting for _, prompting in prompted]
        )

    pairs: list[tuple[Query, Prompting] | _Failed] = []
    for row in rows:
        query, prompting = queries[row], promptings[row]
        if isinstance(query, _Failed):
            pairs.append(query)
        elif isinstance(prompting, _Failed):
            pairs.append(prompting)
        else:
            pairs.append((query, prompting))
    return _map_unfailed(draw, pairs)


def _ignore_progress(prediction: Prediction) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why an item of a batch failed."""

    reason: str


def _to_query(sample: Sample, image: Image | _Failed) -> Query | _Failed:
    """The query of a sample. Samples of one image share the array, so the image is embedded once."""
    if isinstance(image, _Failed):
        return image
    if image.shape[:2] != (sample.height, sample.width):
        actual_size = f"{image.shape[1]} x {image.shape[0]}"
        return _Failed(f"the image has {actual_size} pixels, but its sample has {sample.width} x {sample.height}")
    if not sample.phrase.strip():
        return _Failed("the phrase is empty")
    return Query(image, sample.phrase, sample.id)


def _to_prediction(sample: Sample, prompting: Prompting | _Failed, answer: Answer | _Failed) -> Prediction:
    """The prediction of a sample. If the segmenter failed it keeps the prompts; if the prompter failed it has none."""
    reached = Prompting(()) if isinstance(prompting, _Failed) else prompting
    return Prediction(
        sample.id,
        reached.prompts,
        Rle.empty(sample.height, sample.width) if isinstance(answer, _Failed) else Rle.from_mask(answer.mask),
        reached.replies,
        reached.readable,
        reached.point_answers,
        answer.reason if isinstance(answer, _Failed) else None,
        reached.oracle,
    )


def _map_unfailed(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T | _Failed]) -> list[R | _Failed]:
    """The call's result for each item, in order. Items that failed before are passed through."""
    results = iter(_call_or_split(call, [item for item in items if not isinstance(item, _Failed)]))
    return [item if isinstance(item, _Failed) else next(results) for item in items]


def _call_or_split(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | _Failed]:
    """All items in one call. If it fails, each item is called on its own, so that failures stay separate."""
    if not items:
        return []
    try:
        return list(call(items))
    except Exception as error:  # any error of a model fails this sample, not the run
        if len(items) == 1:
            return [_Failed(_reason(error))]
    return [result for item in items for result in _call_or_split(call, [item])]


def _reason(error: Exception) -> str:
    """The error in one line of bounded length, with its type unless it is a `UserError`."""
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())[:_LONGEST_REASON]
