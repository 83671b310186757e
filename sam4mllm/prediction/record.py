"""Predictions: what was said and drawn for each sample, as JSON Lines in the order of the samples.

One record (the line is broken here for the page); ``asked`` holds [object, x, y, P(yes)]:

    {"version": 1, "id": "refcoco-unc-5342-15215", "prompts": [{"box": [281.0, 115.0, 552.0, 480.0],
     "points": [[288.0, 293.0, 1], [290.0, 120.5, 0]]}], "rle": {"size": [480, 640], "counts": "..."},
     "replies": ["[281,240,863,999]"], "finished": [true], "readable": true, "asked": [[0, 288.0, 293.0, 0.97]],
     "error": null}

``"oracle": true`` follows where the prompts were made from the true masks, so that no file of such can pass for a
model's. Knows nothing of models and numbers.
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
from sam4mllm.prompters import Asked

T = TypeVar("T")
VERSION = 1
# what a record that is none of ours makes of reading it; the last two of 400 digits, and of brackets in brackets
FOREIGN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_BEGINNING = f'{{"version": {VERSION}, "id": "'.encode()


class Outcome(NamedTuple):
    """What scoring asks of a prediction, whoever made it: no replies, and a mask that nobody has looked at yet.

    Attributes:
        id: the sample's.
        mask: the size and counts of what was drawn.
        box: the first one said, by its edges; None where none was.
        readable: false where a reply was neither places nor "none".
        failed: whether there is an error in place of an answer.
        oracle: whether the prompts were made from the true masks.
        boxed: whether its boxes are known: of a peer's mask alone they are not.
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
    """What was said and drawn for one sample.

    Attributes:
        id: the sample's.
        prompts: one per object, in pixels of the picture.
        mask: the union of what was drawn; empty where nothing was, and not looked at where the sample failed.
        replies: everything the model said, in order.
        readable: false where a reply was neither places nor "none".
        asked: the points asked about one by one, kept or not.
        error: why there is no mask, in one line, where the sample failed.
        oracle: whether the prompts were made from the true masks, and no model was asked.
    """

    id: str
    prompts: tuple[Prompt, ...]
    mask: Rle
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    asked: tuple[Asked, ...] = ()
    error: str | None = None
    oracle: bool = False

    @property
    def counted(self) -> Rle:
        """The mask that counts: nothing where the sample failed."""
        return self.mask if self.error is None else Rle.empty(*self.mask.size)

    @property
    def outcome(self) -> Outcome:
        """What scoring asks of it."""
        box = self.prompts[0].box.xyxy if self.prompts else None
        mask = (self.counted.size, self.counted.counts)
        return Outcome(self.id, mask, box, self.readable, self.error is not None, self.oracle, boxed=True)

    def to_line(self) -> str:
        """The record as one line of JSON, in ASCII: no reply can break the line or the encoding.

        What was read from a line is written as that line again.
        """
        record: dict[str, Any] = {
            "version": VERSION,
            "id": self.id,
            "prompts": [
                {
                    "box": [float(edge) for edge in prompt.box.xyxy],
                    "points": [[float(p.x), float(p.y), int(p.positive)] for p in prompt.points],
                }
                for prompt in self.prompts
            ],
            "rle": self.mask.to_json(),
            "replies": [reply.text for reply in self.replies],
            "finished": [reply.finished for reply in self.replies],
            "readable": self.readable,
            "asked": [[one.object, float(one.x), float(one.y), float(one.yes)] for one in self.asked],
            "error": self.error,
        }
        return json.dumps({**record, "oracle": True} if self.oracle else record)

    @classmethod
    def from_line(cls, line: str) -> Prediction:
        """From a line as `to_line` writes it.

        Raises:
            UserError: for anything else, or a record of a newer version.
        """
        record = _opened(line)
        try:
            prompts = tuple(map(_prompt, record["prompts"]))
            return cls(
                id=str(record["id"]),
                prompts=prompts,
                mask=Rle.from_json(record["rle"]),
                replies=_replies(record["replies"], record["finished"]),
                readable=_said("readable", record["readable"]),
                asked=tuple(_asked(one, len(prompts)) for one in record["asked"]),
                error=None if record["error"] is None else str(record["error"]),
                oracle=_said("oracle", record.get("oracle", False)),
            )
        except FOREIGN as error:
            raise _no_record(error) from error


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions of a finished file.

    Raises:
        UserError: for a file that cannot be read, was cut short, or holds a line that is no prediction.
    """
    predictions, kept = read_whole(path)
    _finished(path, kept)
    return predictions


def read_whole(path: Path) -> tuple[list[Prediction], int]:
    """The predictions of a file that may have been cut anywhere, and the length in bytes of their whole lines.

    Raises:
        UserError: for a file that cannot be read, or holds something else than predictions.
    """
    data, kept = _whole(path)
    return list(_each(path, data[:kept], Prediction.from_line)), kept


def read_outcomes(path: Path) -> Iterator[Outcome]:
    """What scoring asks of all predictions of a finished file, one by one: a tenth of the memory and of the time.

    Raises:
        UserError: as `read_predictions` does, when the line's turn comes; counts that no mask has are not seen here.
    """
    data, kept = _whole(path)
    _finished(path, kept)
    return _each(path, data, _outcome)


def _whole(path: Path) -> tuple[bytes, int]:
    """The bytes of a file that holds predictions or nothing, and how many of them are whole lines."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read {path}: it is a folder or a device, not a file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    kept = data.rfind(b"\n") + 1
    rest = data[kept:]
    if not (rest.startswith(_BEGINNING) or _BEGINNING.startswith(rest)):
        raise UserError(f"{path} holds something else than predictions")
    return data, kept


def _finished(path: Path, kept: int) -> None:
    if path.stat().st_size != kept:
        raise UserError(f"{path} ends within a record: run predict again, it goes on from there")


def _each(path: Path, data: bytes, read: Callable[[str], T]) -> Iterator[T]:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            yield read(line.decode(errors="replace"))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error


def _opened(line: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        version = record["version"]
        if version <= VERSION:
            return record
    except FOREIGN as error:
        raise _no_record(error) from error
    raise UserError(f"a prediction of version {version}; this sam4mllm reads up to {VERSION}")


def _outcome(line: str) -> Outcome:
    record = _opened(line)
    try:
        prompts, mask = record["prompts"], size_and_counts(record["rle"])
        box = Box(*map(float, prompts[0]["box"])).xyxy if prompts else None
        readable, oracle = _said("readable", record["readable"]), _said("oracle", record.get("oracle", False))
        failed = record["error"] is not None
        if failed:
            mask = mask[0], Rle.empty(*mask[0]).counts
        return Outcome(str(record["id"]), mask, box, readable, failed, oracle, boxed=True)
    except FOREIGN as error:
        raise _no_record(error) from error


def _no_record(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(f"no prediction record: {type(error).__name__}: {error}")


def _prompt(record: dict[str, Any]) -> Prompt:
    x0, y0, x1, y1 = map(float, record["box"])
    points = tuple(Point(float(x), float(y), bool(positive)) for x, y, positive in record["points"])
    return Prompt(Box(x0, y0, x1, y1), points)


def _replies(texts: list[Any], finished: list[Any]) -> tuple[Reply, ...]:
    if len(texts) != len(finished):
        raise UserError(f"{len(texts)} replies, and of {len(finished)} it is said whether they were finished")
    return tuple(Reply(str(text), _said("finished", done)) for text, done in zip(texts, finished, strict=True))


def _asked(row: Any, prompts: int) -> Asked:
    number, x, y, yes = row
    one = Asked(int(number), float(x), float(y), float(yes))
    if number not in range(prompts) or not (math.isfinite(one.x) and math.isfinite(one.y) and 0 <= one.yes <= 1):
        raise UserError(
            f"a point is asked about as [one of {prompts} objects, x, y, P(yes) of 0 to 1], got {short(row)}"
        )
    return one


def _said(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{name} is true or false, got {short(value)}")
    return value
