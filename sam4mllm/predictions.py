"""Predictions: what was said and drawn for each sample, as JSON Lines in the order of the samples.

One record (the line is broken here for the page); ``asked`` holds [object, x, y, P(yes)]:

    {"version": 1, "id": "refcoco-unc-5342-15215", "prompts": [{"box": [281.0, 115.0, 552.0, 480.0],
     "points": [[288.0, 293.0, 1], [290.0, 120.5, 0]]}], "rle": {"size": [480, 640], "counts": "..."},
     "replies": ["[281,240,863,999]"], "finished": [true], "readable": true, "asked": [[0, 288.0, 293.0, 0.97]],
     "error": null}

Knows nothing of models and numbers.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sam4mllm.atomic import one_line
from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Point, Prompt
from sam4mllm.mllm import Reply
from sam4mllm.prompters import Asked
from sam4mllm.rle import Rle

VERSION = 1
_BEGINNING = f'{{"version": {VERSION}, "id": "'.encode()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was said and drawn for one sample.

    Attributes:
        id: the sample's.
        prompts: one per object, in pixels of the picture.
        mask: the union of what was drawn; empty where nothing was.
        replies: everything the model said, in order.
        readable: false where a reply was neither places nor "none".
        asked: the points asked about one by one, kept or not.
        error: why there is no mask, in one line, where the sample failed.
    """

    id: str
    prompts: tuple[Prompt, ...]
    mask: Rle
    replies: tuple[Reply, ...] = ()
    readable: bool = True
    asked: tuple[Asked, ...] = ()
    error: str | None = None

    def to_line(self) -> str:
        """The record as one line of JSON, in ASCII: no reply can break the line or the encoding."""
        record = {
            "version": VERSION,
            "id": self.id,
            "prompts": [
                {"box": list(prompt.box.xyxy), "points": [[p.x, p.y, int(p.positive)] for p in prompt.points]}
                for prompt in self.prompts
            ],
            "rle": self.mask.to_json(),
            "replies": [reply.text for reply in self.replies],
            "finished": [reply.finished for reply in self.replies],
            "readable": self.readable,
            "asked": [[asked.object, asked.x, asked.y, asked.yes] for asked in self.asked],
            "error": self.error,
        }
        return json.dumps(record)

    @classmethod
    def from_line(cls, line: str) -> Prediction:
        """From a line as `to_line` writes it.

        Raises:
            UserError: for anything else, or a record of a newer version.
        """
        try:
            record: dict[str, Any] = json.loads(line)
            if record["version"] > VERSION:
                raise UserError(f"a prediction of version {record['version']}; this sam4mllm reads up to {VERSION}")
            return cls(
                id=str(record["id"]),
                prompts=tuple(map(_prompt, record["prompts"])),
                mask=Rle.from_json(record["rle"]),
                replies=tuple(map(Reply, record["replies"], record["finished"])),
                readable=bool(record["readable"]),
                asked=tuple(
                    Asked(int(number), float(x), float(y), float(yes)) for number, x, y, yes in record["asked"]
                ),
                error=None if record["error"] is None else str(record["error"]),
            )
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"no prediction record: {type(error).__name__}: {error}") from error


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions of a finished file.

    Raises:
        UserError: for a file that cannot be read, was cut short, or holds a line that is no prediction.
    """
    predictions, kept = read_whole(path)
    if path.stat().st_size != kept:
        raise UserError(f"{path} ends within a record: run predict again, it goes on from there")
    return predictions


def read_whole(path: Path) -> tuple[list[Prediction], int]:
    """The predictions of a file that may have been cut anywhere, and the length in bytes of their whole lines.

    Raises:
        UserError: for a file that cannot be read, or holds something else than predictions.
    """
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
    predictions = []
    for number, line in enumerate(data[:kept].splitlines(), 1):
        try:
            predictions.append(Prediction.from_line(line.decode(errors="replace")))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    return predictions, kept


class Lines:
    """A file that grows by whole lines; a line that cannot be written whole is taken back.

    Args:
        path: its folder is made if need be.
        keep: how many bytes of what is there to keep.

    Raises:
        UserError: where the system refuses, here and at each line.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path, self._size = path, keep
        with one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise UserError(f"cannot write {path}: another run is writing it") from None
            self._file.truncate(keep)

    def append(self, line: str) -> None:
        data = f"{line}\n".encode()
        rest = memoryview(data)
        with one_line(self._path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self._size)
                raise
        self._size += len(data)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _prompt(record: dict[str, Any]) -> Prompt:
    x0, y0, x1, y1 = map(float, record["box"])
    points = tuple(Point(float(x), float(y), bool(positive)) for x, y, positive in record["points"])
    return Prompt(Box(x0, y0, x1, y1), points)
