"""Runs `sam4mllm infer`: images and phrases in; overlays, masks and records out.

Each pair gets three files named after its image and phrase; the record is written last. A record is a prediction with
a few more fields. `record` can read it, and a file with one record per line can be replayed instead of the model.

    kitchen-the-mug.overlay.png   the image with mask, box and labelled points
    kitchen-the-mug.mask.png      greyscale, 0 and 255
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

from sam4mllm.config import PipelineConfig
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image, write_png
from sam4mllm.pipeline import Answer, segment_prompts
from sam4mllm.prediction.record import Prediction
from sam4mllm.prediction.requests import Pair, Request
from sam4mllm.prompters import Prompting, Query
from sam4mllm.runtime.files import check_folder, write_text

Record = dict[str, Any]
AnswerFn = Callable[[Sequence[Query]], Sequence[Answer]]


def infer(config: PipelineConfig, request: Request, out: Path | None, batch_size: int) -> Iterator[Record]:
    """Answer a request, write the files of each pair, and yield its record as soon as they are written.

    Names, the folder and the request are checked before a model is loaded. Models are loaded before this returns.

    Args:
        config: the pipeline's configuration.
        request: the pairs to answer.
        out: the folder for the files, created if necessary; None to write no files.
        batch_size: pairs per batch, 1 or more. An image that several pairs of a batch share is embedded once.

    Raises:
        UserError: if the pipeline cannot be built or a file cannot be written. The pair's other files are then deleted;
            files of earlier pairs remain.
    """
    if request.by_hand:
        config.check_user_prompts(request.by_hand)
    else:
        config = config.resolved()
        config.check()
        config.warn_if_not_trained()
    if out is not None:
        check_folder(out)
    if request.by_hand:
        prompting = Prompting(request.by_hand)
        answer: AnswerFn = partial(segment_prompts, config.build_segmenter(), promptings=[prompting])
    else:
        answer = config.build().many
    return _answer_pairs(answer, request.pairs, out, batch_size)


def _answer_pairs(answer: AnswerFn, pairs: Sequence[Pair], out: Path | None, batch_size: int) -> Iterator[Record]:
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        images = {path: read_image(path) for path in dict.fromkeys(pair.image for pair in batch)}
        answers = answer([Query(images[pair.image], pair.phrase, pair.name) for pair in batch])
        for pair, pair_answer in zip(batch, answers, strict=True):
            record = to_record(pair, pair_answer)
            if out is not None:
                _write(out / pair.name, pair_answer, record)
            yield record


def to_record(pair: Pair, answer: Answer) -> Record:
    """An answer as the JSON shown above, without timings. Places are in pixels of the image, masks are COCO RLE."""
    height, width = answer.mask.shape
    prediction = Prediction(
        pair.name, answer.prompts, Rle.from_mask(answer.mask), answer.replies, answer.readable, answer.point_answers
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
