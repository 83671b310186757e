"""From a picture and a phrase to a mask: a prompter says where, a segmenter draws it. Knows no model and no data set.

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
from sam4mllm.images.files import as_image, write_png
from sam4mllm.images.overlay import AnySize, overlay
from sam4mllm.language.messages import Reply
from sam4mllm.prompters import Asked, Prompter, Prompting, Query
from sam4mllm.segmenters import ScoredMask, Segmenter


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was found for one phrase in one picture.

    Attributes:
        image: the picture that was asked about.
        phrase: the words; empty where the prompts were given by hand.
        prompts: one per object, in the picture's pixels. Empty means "nothing there" where ``readable``, and a lost
            reply where not.
        parts: one mask per prompt, with the segmenter's guess of its IoU.
        mask: the union of the parts; all false for no prompts.
        replies: everything the model said, in order.
        readable: false where a reply was neither places nor "none".
        asked: the points asked about one by one, kept or not.
        timings: seconds by stage, this phrase's share of its batch.
    """

    image: Image
    phrase: str
    prompts: tuple[Prompt, ...]
    parts: tuple[ScoredMask, ...]
    mask: Mask
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    asked: tuple[Asked, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def overlay(self) -> AnySize:
        """The picture with masks, boxes and clicks over it; below the phrase, and where nothing was found why."""
        found = "" if self.prompts else " (nothing there)" if self.readable else " (the reply was not readable)"
        return overlay(self.image, self.prompts, [part.mask for part in self.parts], self.phrase + found)

    def save(self, path: Path | str) -> None:
        """Write the overlay as a PNG, whole or not at all.

        Raises:
            UserError: where the file cannot be written, or its name does not end in ``.png``.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"an overlay is written as a PNG: give a name that ends in .png, not {path}")
        write_png(Path(path), self.overlay())


class Pipeline:
    """A prompting strategy and a segmenter, called with a picture and a phrase.

    Args:
        prompter: finds the prompts of a phrase.
        segmenter: draws them.
    """

    def __init__(self, prompter: Prompter, segmenter: Segmenter) -> None:
        self.prompter, self.segmenter = prompter, segmenter

    def __call__(self, picture: Path | str | NDArray[Any], phrase: str) -> Answer:
        """The answer for one phrase.

        Args:
            picture: a file, or uint8 RGB of shape (height, width, 3).
            phrase: a referring expression.

        Raises:
            UserError: for a picture that cannot be read, an array of another kind, or an empty phrase.
        """
        return self.many([Query(as_image(picture), phrase)])[0]

    def many(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer per query, in order; the queries are one batch for the prompter.

        Queries that share one image array are embedded by the segmenter once, and decoded together.

        Raises:
            UserError: for an empty phrase, or prompts that the segmenter cannot take.
        """
        for query in queries:
            if not query.phrase.strip():
                raise UserError("a phrase is empty: say what to look for")
        return drawn(self.segmenter, queries, self.prompter(queries))


def drawn(segmenter: Segmenter, queries: Sequence[Query], promptings: Sequence[Prompting]) -> list[Answer]:
    """One answer per query from prompts that are known already; nothing is embedded where there are none.

    Raises:
        UserError: for prompts that the segmenter cannot take.
    """
    rows: dict[int, list[int]] = {}
    for row, (query, prompting) in enumerate(zip(queries, promptings, strict=True)):
        if prompting.prompts:
            rows.setdefault(id(query.image), []).append(row)
    parts: list[tuple[ScoredMask, ...]] = [() for _ in queries]
    timings: list[Mapping[str, float]] = [prompting.timings for prompting in promptings]
    for alike in rows.values():
        found, seconds = _segmented(segmenter, queries[alike[0]].image, [promptings[row].prompts for row in alike])
        for row, masks in zip(alike, found, strict=True):
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
            prompting.asked,
            spent,
        )
        for query, prompting, masks, spent in zip(queries, promptings, parts, timings, strict=True)
    ]


def _segmented(
    segmenter: Segmenter, image: Image, prompts: Sequence[tuple[Prompt, ...]]
) -> tuple[list[tuple[ScoredMask, ...]], dict[str, float]]:
    """The masks of several queries about one picture, in one embedding and one call; and each query's share of time."""
    start = perf_counter()
    scene = segmenter.embed(image)
    embedded = perf_counter()
    masks = iter(scene.segment([prompt for each in prompts for prompt in each]))
    found = [tuple(next(masks) for _ in each) for each in prompts]
    done = perf_counter()
    return found, {"embed": (embedded - start) / len(prompts), "segment": (done - embedded) / len(prompts)}
