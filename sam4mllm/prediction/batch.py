"""From samples to predictions: every sample is answered or its failure recorded.

The samples are sorted, pictures of like sizes together, and cut into parts of whole pictures and the parts into
batches, before it is seen what is done already and whose part is whose: a sample always has the same neighbours, so a
run that was stopped, or shared by many, ends in the same bytes. Each picture is read and embedded once for all that is
said about it. Knows nothing of truth and numbers; those are `score`'s.
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
from sam4mllm.pipeline import Answer, Pipeline, drawn
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.store import Shard, growing
from sam4mllm.prompters import Prompting, Query
from sam4mllm.runtime.parallel import Executor, InProcess

T = TypeVar("T")
R = TypeVar("R")
Answered = list[tuple[Prediction, Mapping[str, float]]]
_LONGEST_REASON = 300
BATCHES = 4
"""In a part, as a rule: what a killed run loses at most. Pictures are whole, so a part's last batch may be smaller."""


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
        progress: told of every prediction as it is written, at first of those that were there already.

    Raises:
        UserError: where ``out`` holds something else, or cannot be written; lines that were written stay.
    """
    work = Answering(lambda _: pipeline, batch_size)
    predict_parts(samples, work, InProcess(), out, Shard(), settings=settings, progress=progress)


@dataclass(frozen=True, slots=True)
class Answering:
    """Predicting, as a worker is told of it.

    Attributes:
        build: makes what answers, on a device.
        batch_size: how many samples the model is asked about at once.

    Raises:
        UserError: for a batch of none.
    """

    build: Callable[[str | None], Pipeline]
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"the batch size is 1 or more, got {self.batch_size}")

    def begin(self, device: str | None) -> Callable[[SampleSet], Answered]:
        """What answers a part, with models of its own."""
        return partial(answered, pipeline=self.build(device), batch_size=self.batch_size)


def predict_parts(
    samples: SampleSet,
    work: Answering,
    executor: Executor,
    out: Path,
    shard: Shard,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Prediction], None] | None = None,
    retry_failed: bool = False,
) -> None:
    """As `predict`, by any executor, or one shard of it; what shards left is taken over by a run that is none.

    Args:
        samples: all that are to be answered, by whatever shard.
        work: what answers.
        executor: runs the parts.
        out: the whole's file; a shard's own lies beside it.
        shard: which parts are answered.
        settings: as of `predict`, the same for all shards.
        progress: as of `predict`.
        retry_failed: whether samples that failed in an earlier run are answered again.

    Raises:
        UserError: as `predict` does, and as the executor does.
    """
    tell = progress or _nobody
    parts = {number: part for number, part in parted(samples, work.batch_size).items() if shard.owns(number)}
    with growing(samples, out, shard, settings, retry_failed=retry_failed) as file:
        for sample in samples:
            if sample.id in file.there:
                tell(file.there[sample.id])
        left = {number: part for number, part in parts.items() if any(one.id not in file.there for one in part)}
        for _, found in executor.run(work, left):
            for prediction, seconds in found:
                if prediction.id not in file.there:
                    file.add(prediction, seconds)
                    tell(prediction)


def parted(samples: SampleSet, batch_size: int) -> dict[int, SampleSet]:
    """The samples by the number of their part, the largest pictures first; the same in whatever order they come.

    A picture that has more expressions than a part's batches hold is a part of its own.
    """
    order = sorted(samples, key=lambda one: (-one.height * one.width, -one.height, one.image, one.id))
    parts: list[list[Sample]] = []
    for some in SampleSet(tuple(order), samples.images).by_picture():
        if not parts or len(parts[-1]) + len(some) > BATCHES * batch_size:
            parts.append([])
        parts[-1].extend(some)
    return {number: SampleSet(tuple(part), samples.images) for number, part in enumerate(parts)}


def answered(part: SampleSet, pipeline: Pipeline, batch_size: int) -> Answered:
    """The predictions of a part, in its order, and each one's seconds by stage."""
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(part):
        rows.setdefault(sample.image, []).append(row)
    paths = {image: part.path(part.samples[some[0]]) for image, some in rows.items()}
    read = _each(lambda some: [read_image(path) for path in some], list(paths.values()))
    images = dict(zip(paths, read, strict=True))
    queries = [_query(sample, images[sample.image]) for sample in part]
    promptings = [
        prompting
        for start in range(0, len(queries), batch_size)
        for prompting in _each(pipeline.prompter, queries[start : start + batch_size])
    ]
    answers: list[Answer | _Failed] = [_Failed("") for _ in queries]
    for some in rows.values():
        for row, answer in zip(some, _drawn(pipeline, queries, promptings, some), strict=True):
            answers[row] = answer
    return [
        (_prediction(sample, prompting, answer), {} if isinstance(answer, _Failed) else answer.timings)
        for sample, prompting, answer in zip(part, promptings, answers, strict=True)
    ]


def _drawn(
    pipeline: Pipeline,
    queries: Sequence[Query | _Failed],
    promptings: Sequence[Prompting | _Failed],
    rows: Sequence[int],
) -> list[Answer | _Failed]:
    """The answers of some rows about one picture: one embedding, and one call of the decoder, if all goes well."""

    def draw(some: Sequence[tuple[Query, Prompting]]) -> list[Answer]:
        return drawn(pipeline.segmenter, [query for query, _ in some], [prompting for _, prompting in some])

    pairs: list[tuple[Query, Prompting] | _Failed] = []
    for row in rows:
        query, prompting = queries[row], promptings[row]
        if isinstance(query, _Failed):
            pairs.append(query)
        elif isinstance(prompting, _Failed):
            pairs.append(prompting)
        else:
            pairs.append((query, prompting))
    return _each(draw, pairs)


def _nobody(prediction: Prediction) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why one of many could not be done."""

    reason: str


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
