"""What `sam4mllm infer` does: pictures and phrases in; overlays, masks and records out. Knows no model.

For each pair three files appear, named after its picture and phrase, the record last. A record is a prediction (see
`record`, which reads it too; one a line they can be replayed in place of the model) with a few fields more:

    kitchen-the-mug.overlay.png   the picture with mask, box and signed points
    kitchen-the-mug.mask.png      grey, 0 and 255
    kitchen-the-mug.json          {"version": 1, "id": "kitchen-the-mug", ..., "image": "kitchen.jpg",
                                   "phrase": "the mug", "width": 640, "height": 480,
                                   "parts": [{"rle": {"size": [480, 640], "counts": "..."}, "score": 0.93}]}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sam4mllm.config import Recipe
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image, write_png
from sam4mllm.pipeline import Answer, drawn
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.requests import Pair, Request
from sam4mllm.prompters import Prompting, Query
from sam4mllm.runtime.files import check_folder, write_text

Record = dict[str, Any]
Answering = Callable[[Sequence[Query]], Sequence[Answer]]


def infer(recipe: Recipe, request: Request, out: Path | None, batch_size: int) -> Iterator[Record]:
    """Answer what is requested, write each pair's files, and give its record as soon as it is there.

    Names, the folder and the request are checked before a model is loaded; models are loaded before this returns.

    Args:
        recipe: what answers.
        request: what to answer.
        out: the folder for the files, made if need be; none are written where None.
        batch_size: how many pairs at once, 1 or more; a picture that several of them share is embedded once.

    Raises:
        UserError: for a recipe that cannot be built, or a file that cannot be written; the pair's other files are then
            taken away, and earlier pairs' stay.
    """
    if request.by_hand:
        recipe.check_by_hand()
    else:
        recipe.check()
    if out is not None:
        check_folder(out)
    if request.by_hand:
        prompting = Prompting(request.by_hand)
        answer: Answering = partial(drawn, recipe.build_segmenter(), promptings=[prompting])
    else:
        answer = recipe.build().many
    return _answered(answer, request.pairs, out, batch_size)


def _answered(answer: Answering, pairs: Sequence[Pair], out: Path | None, batch_size: int) -> Iterator[Record]:
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        images = {path: read_image(path) for path in dict.fromkeys(pair.image for pair in batch)}
        answers = answer([Query(images[pair.image], pair.phrase, pair.name) for pair in batch])
        for pair, found in zip(batch, answers, strict=True):
            record = record_of(pair, found)
            if out is not None:
                _write(out / pair.name, found, record)
            yield record


def record_of(pair: Pair, answer: Answer) -> Record:
    """An answer as the JSON that the module shows: places in pixels of the picture, masks as COCO RLE; no timings."""
    height, width = answer.mask.shape
    prediction = Prediction(
        pair.name, answer.prompts, Rle.from_mask(answer.mask), answer.replies, answer.readable, answer.asked
    )
    return {
        **json.loads(prediction.to_line()),
        "image": str(pair.image),
        "phrase": pair.phrase,
        "width": width,
        "height": height,
        "parts": [{"rle": Rle.from_mask(part.mask).to_json(), "score": part.score} for part in answer.parts],
    }


def _write(stem: Path, answer: Answer, record: Record) -> None:
    written: list[Path] = []
    writers: tuple[tuple[str, Callable[[Path], None]], ...] = (
        (".overlay.png", answer.save),
        (".mask.png", lambda path: write_png(path, answer.mask)),
        (".json", lambda path: write_text(path, json.dumps(record) + "\n")),
    )
    try:
        for suffix, write in writers:
            path = stem.with_name(stem.name + suffix)
            write(path)
            written.append(path)
    except UserError:
        for path in written:
            path.unlink()
        raise
