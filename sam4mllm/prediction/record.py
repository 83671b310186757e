"""Predictions as JSON Lines, in the order of the samples.

One record (broken into lines here; ``point_answers`` holds [object, x, y, P(yes)]):

    {"version": 1, "id": "refcoco-unc-5342-15215", "prompts": [{"box": [281.0, 115.0, 552.0, 480.0],
     "points": [[288.0, 293.0, 1], [290.0, 120.5, 0]]}], "rle": {"size": [480, 640], "counts": "..."},
     "replies": ["[281,240,863,999]"], "finished": [true], "readable": true, "asked": [[0, 288.0, 293.0, 0.97]],
     "error": null}

``"oracle": true`` follows if the prompts were made from ground truth masks, so that such a file cannot be mistaken for
a model's predictions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Encoded, Rle, size_and_counts
from sam4mllm.geometry.rle_parse import short
from sam4mllm.language.messages import Reply
from sam4mllm.prompters import PointAnswer

T = TypeVar("T")
VERSION = 1
# what parsing an invalid record can raise; the last two for numbers of 400 digits and deeply nested brackets
PARSE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_LINE_START = f'{{"version": {VERSION}, "id": "'.encode()


class Outcome(NamedTuple):
    """The fields of a prediction that scoring needs; the counts of ``mask`` are not validated yet.

    Attributes:
        id: the sample's id.
        mask: size and counts of the predicted mask.
        box: x0, y0, x1, y1 of the first predicted box; None if there is none.
        readable: false if a reply was neither places nor "none".
        failed: whether the record has an error instead of an answer.
        oracle: whether the prompts were made from ground truth masks.
        boxed: whether the boxes are known; they are not if another tool supplied only masks.
    """

    id: str
    mask: Encoded
    box: tuple[float, float, float, float] | None = None
    readable: bool = True
    failed: bool = False
    oracle: bool = False
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """The replies, prompts and mask of one sample.

    Attributes:
        id: the sample's id.
        prompts: one per object, in pixels of the image.
        mask: the union of the objects' masks; empty if there are none, and meaningless if the sample failed.
        replies: everything the model replied, in order.
        readable: false if a reply was neither places nor "none".
        point_answers: the points that the model classified, whether they became prompts or not.
        error: the reason in one line if the sample failed, else None.
        oracle: whether the prompts were made from ground truth masks without a model.
    """

    id: str
    prompts: tuple[Prompt, ...]
    mask: Rle
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    point_answers: tuple[PointAnswer, ...] = ()
    error: str | None = None
    oracle: bool = False

    @property
    def counted(self) -> Rle:
        """The mask to score: empty if the sample failed."""
        return self.mask if self.error is None else Rle.empty(*self.mask.size)

    @property
    def outcome(self) -> Outcome:
        """The fields that scoring needs."""
        first_box = self.prompts[0].box if self.prompts else None
        box = None if first_box is None else first_box.xyxy
        mask = (self.counted.size, self.counted.counts)
        return Outcome(self.id, mask, box, self.readable, self.error is not None, self.oracle, boxed=True)

    def to_line(self) -> str:
        """The record as one line of ASCII JSON, so that no reply can break the line or the encoding.

        A prediction that was read from such a line gives the same line.
        """
        record: dict[str, Any] = {
            "version": VERSION,
            "id": self.id,
            "prompts": [
                {
                    "box": None if prompt.box is None else [float(edge) for edge in prompt.box.xyxy],
                    "points": [[float(point.x), float(point.y), int(point.positive)] for point in prompt.points],
                }
                for prompt in self.prompts
            ],
            "rle": self.mask.to_json(),
            "replies": [reply.text for reply in self.replies],
            "finished": [reply.finished for reply in self.replies],
            "readable": self.readable,
            "asked": [
                [answer.object, float(answer.x), float(answer.y), float(answer.yes)] for answer in self.point_answers
            ],
            "error": self.error,
        }
        return json.dumps({**record, "oracle": True} if self.oracle else record)

    @classmethod
    def from_line(cls, line: str) -> Prediction:
        """Parse a line that `to_line` wrote.

        Raises:
            UserError: for anything else, or a record of a newer version.
        """
        record = _parse_record(line)
        try:
            prompts = tuple(map(_parse_prompt, record["prompts"]))
            return cls(
                id=str(record["id"]),
                prompts=prompts,
                mask=Rle.from_json(record["rle"]),
                replies=_parse_replies(record["replies"], record["finished"]),
                readable=_parse_bool("readable", record["readable"]),
                point_answers=tuple(_parse_answer(row, len(prompts)) for row in record["asked"]),
                error=None if record["error"] is None else str(record["error"]),
                oracle=_parse_bool("oracle", record.get("oracle", False)),
            )
        except PARSE_ERRORS as error:
            raise _invalid_record(error) from error


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions of a finished file.

    Raises:
        UserError: if the file cannot be read, was cut short, or holds a line that is not a prediction.
    """
    predictions, size = read_unfinished(path)
    _check_finished(path, size)
    return predictions


def read_unfinished(path: Path) -> tuple[list[Prediction], int]:
    """The predictions of a file that may have been cut anywhere, and the length in bytes of its complete lines.

    Raises:
        UserError: if the file cannot be read, or holds something other than predictions.
    """
    data, size = _read_bytes(path)
    return list(_parse_lines(path, data[:size], Prediction.from_line)), size


def read_outcomes(path: Path) -> Iterator[Outcome]:
    """The outcomes of a finished file, one by one. This needs a tenth of the memory and time of `read_predictions`.

    Raises:
        UserError: as `read_predictions` does, when the iteration reaches the line. Invalid counts of masks are not
            detected here.
    """
    data, size = _read_bytes(path)
    _check_finished(path, size)
    return _parse_lines(path, data, _parse_outcome)


def _read_bytes(path: Path) -> tuple[bytes, int]:
    """The bytes of a file of predictions, which may be empty, and the length of its complete lines."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read {path}: it is a folder or a device, not a file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    size = data.rfind(b"\n") + 1
    incomplete_line = data[size:]
    if not (incomplete_line.startswith(_LINE_START) or _LINE_START.startswith(incomplete_line)):
        raise UserError(f"{path} holds something other than predictions")
    return data, size


def _check_finished(path: Path, size: int) -> None:
    if path.stat().st_size != size:
        raise UserError(f"{path} ends within a record: run predict again to resume")


def _parse_lines(path: Path, data: bytes, parse: Callable[[str], T]) -> Iterator[T]:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            yield parse(line.decode(errors="replace"))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error


def _parse_record(line: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        version = record["version"]
        if version <= VERSION:
            return record
    except PARSE_ERRORS as error:
        raise _invalid_record(error) from error
    raise UserError(f"a prediction of version {version}; this sam4mllm reads versions up to {VERSION}: upgrade it")


def _parse_outcome(line: str) -> Outcome:
    record = _parse_record(line)
    try:
        prompts, mask = record["prompts"], size_and_counts(record["rle"])
        first_box = prompts[0]["box"] if prompts else None
        box = None if first_box is None else Box(*map(float, first_box)).xyxy
        readable, oracle = (
            _parse_bool("readable", record["readable"]),
            _parse_bool("oracle", record.get("oracle", False)),
        )
        failed = record["error"] is not None
        if failed:
            mask = mask[0], Rle.empty(*mask[0]).counts
        return Outcome(str(record["id"]), mask, box, readable, failed, oracle, boxed=True)
    except PARSE_ERRORS as error:
        raise _invalid_record(error) from error


def _invalid_record(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(f"not a prediction record: {type(error).__name__}: {error}")


def _parse_prompt(record: dict[str, Any]) -> Prompt:
    points = tuple(Point(float(x), float(y), bool(positive)) for x, y, positive in record["points"])
    if record["box"] is None:
        return Prompt(None, points)
    x0, y0, x1, y1 = map(float, record["box"])
    return Prompt(Box(x0, y0, x1, y1), points)


def _parse_replies(texts: list[Any], finished: list[Any]) -> tuple[Reply, ...]:
    if len(texts) != len(finished):
        raise UserError(f"replies and finished must have the same length, got {len(texts)} and {len(finished)}")
    return tuple(Reply(str(text), _parse_bool("finished", flag)) for text, flag in zip(texts, finished, strict=True))


def _parse_answer(row: Any, n_prompts: int) -> PointAnswer:
    object_index, x, y, yes = row
    answer = PointAnswer(int(object_index), float(x), float(y), float(yes))
    if object_index not in range(n_prompts) or not (
        math.isfinite(answer.x) and math.isfinite(answer.y) and 0 <= answer.yes <= 1
    ):
        raise UserError(f"a point in asked is [object below {n_prompts}, x, y, P(yes) of 0 to 1], got {short(row)}")
    return answer


def _parse_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false, got {short(value)}")
    return value
