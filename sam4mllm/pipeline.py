"""The pipeline: a prompter turns an image and a phrase into prompts, and a segmenter turns the prompts into masks.

>>> answer = Pipeline(PPG(mllm), segmenter)("kitchen.jpg", "the mug behind the kettle")
>>> answer.mask.shape, answer.prompts, [reply.text for reply in answer.replies]
((480, 640), (Prompt(...),), ['[281,240,863,999],(450,610),...'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Mask, Prompt, union
from sam4mllm.images.files import load_image, write_png
from sam4mllm.images.overlay import AnySize, overlay
from sam4mllm.language.messages import Reply
from sam4mllm.prompters import PointAnswer, Prompter, Prompting, Query
from sam4mllm.segmenters import ScoredMask, Segmenter


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The prompts and masks of one phrase in one image.

    Attributes:
        image: the input image, uint8 RGB of shape (height, width, 3).
        phrase: the referring expression; empty if the prompts were drawn by hand.
        prompts: one per object, in pixels of the image. If empty, the model found no object (``readable`` is true) or
            its reply could not be parsed (``readable`` is false).
        parts: one mask per prompt, with the IoU that the segmenter predicts for it.
        mask: the union of the parts; all false if there are no prompts.
        replies: the model's raw replies, in order.
        readable: false if a reply held neither a box nor a "none".
        point_answers: the points that the model classified one by one, including those dropped as uncertain.
        timings: seconds per stage; a batch's time is divided evenly among its queries.
    """

    image: Image
    phrase: str
    prompts: tuple[Prompt, ...]
    parts: tuple[ScoredMask, ...]
    mask: Mask
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    point_answers: tuple[PointAnswer, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def overlay(self) -> AnySize:
        """The image with masks, boxes and points drawn on it, above a caption with the phrase."""
        reason = "" if self.prompts else " (nothing there)" if self.readable else " (the reply was not readable)"
        return overlay(self.image, self.prompts, [part.mask for part in self.parts], self.phrase + reason)

    def save(self, path: Path | str) -> None:
        """Write the overlay as a PNG. The write is atomic.

        Raises:
            UserError: if the file cannot be written, or its name does not end in ``.png``.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"cannot save the overlay as {path}: overlays are PNG files, use a name that ends in .png")
        write_png(Path(path), self.overlay())


class Pipeline:
    """A prompter and a segmenter in one callable: image and phrase in, `Answer` out.

    Args:
        prompter: generates prompts for a phrase.
        segmenter: turns prompts into masks.
    """

    def __init__(self, prompter: Prompter, segmenter: Segmenter) -> None:
        self.prompter, self.segmenter = prompter, segmenter

    def __call__(self, image: Path | str | NDArray[Any], phrase: str) -> Answer:
        """The answer for one image and one phrase.

        Args:
            image: an image file, or a uint8 RGB array of shape (height, width, 3).
            phrase: a referring expression.

        Raises:
            UserError: if the file cannot be read, the array has another dtype or shape, or the phrase is empty.
        """
        return self.many([Query(load_image(image), phrase)])[0]

    def many(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer per query, in order. The prompter receives all queries as one batch.

        The segmenter embeds each image array once: queries that share the array object share the embedding.

        Raises:
            UserError: if a phrase is empty, or the segmenter does not support the prompts.
        """
        for query in queries:
            if not query.phrase.strip():
                raise UserError("the phrase is empty: describe the object to segment")
        return segment_prompts(self.segmenter, queries, self.prompter(queries))


def segment_prompts(segmenter: Segmenter, queries: Sequence[Query], promptings: Sequence[Prompting]) -> list[Answer]:
    """One answer per query, from prompts that were generated before. An image without prompts is not embedded.

    Raises:
        UserError: if the segmenter does not support the prompts.
    """
    rows_by_image: dict[int, list[int]] = {}
    for row, (query, prompting) in enumerate(zip(queries, promptings, strict=True)):
        if prompting.prompts:
            rows_by_image.setdefault(id(query.image), []).append(row)
    parts: list[tuple[ScoredMask, ...]] = [() for _ in queries]
    timings: list[Mapping[str, float]] = [prompting.timings for prompting in promptings]
    for rows in rows_by_image.values():
        masks_per_query, seconds = _segment_image(
            segmenter, queries[rows[0]].image, [promptings[row].prompts for row in rows]
        )
        for row, masks in zip(rows, masks_per_query, strict=True):
            parts[row] = masks
            timings[row] = {**timings[row], **seconds}
    return [
        Answer(
            query.image,
            query.phrase,
            prompting.prompts,
            masks,
            union([part.mask for part in masks], *query.image.shape[:2]),
            prompting.replies,
            prompting.readable,
            prompting.point_answers,
            query_timings,
        )
        for query, prompting, masks, query_timings in zip(queries, promptings, parts, timings, strict=True)
    ]


def _segment_image(
    segmenter: Segmenter, image: Image, prompts_per_query: Sequence[tuple[Prompt, ...]]
) -> tuple[list[tuple[ScoredMask, ...]], dict[str, float]]:
    """The masks of several queries on one image, from one embedding and one call, and the seconds of each query."""
    start = perf_counter()
    scene = segmenter.embed(image)
    embedded = perf_counter()
    masks = iter(scene.segment([prompt for prompts in prompts_per_query for prompt in prompts]))
    masks_per_query = [tuple(next(masks) for _ in prompts) for prompts in prompts_per_query]
    segmented = perf_counter()
    count = len(prompts_per_query)
    return masks_per_query, {"embed": (embedded - start) / count, "segment": (segmented - embedded) / count}
