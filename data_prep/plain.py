"""Foreign files as plain values, which run no code and end in one line where they are damaged: pickles and JSON.

    read_pickle(Path("refcoco/refs(unc).p"))   ->  [{"ref_id": 5342, "ann_id": 426093, "sentences": [...], ...}, ...]
    read_json(Path("val/1101_sample_o.json"))  ->  {"text": ["…"], "is_sentence": true, "shapes": [...]}

Knows nothing of what the values mean.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any, NoReturn

from sam4mllm.errors import UserError

MAX_PICKLE = 2**27
"""Bytes; the largest refs of the known sets have a third of it. A byte of a pickle can become 60 in memory."""


class _Plain(pickle._Unpickler):
    """Reads lists, dictionaries, numbers and text; whatever else a pickle could name is refused, not imported.

    The unpickler that is written in Python: that in C sets aside room for as many values as a pickle claims to hold,
    so ten bytes can ask for all of the memory.
    """

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise UserError(f"it names {module_name}.{global_name}, and refs hold plain lists, numbers and text alone")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise UserError(f"it names the outside object {pid!r:.40}, and refs hold plain lists, numbers and text alone")

    def _buffer(self) -> None:
        raise UserError("it holds a byte array, and refs hold plain lists, numbers and text alone")

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _buffer}  # type: ignore[dict-item]  # noqa: RUF012  as the class above has it


def read_pickle(path: Path) -> Any:
    """The plain values of a pickle of any protocol; text of Python 2 is read as UTF-8.

    Raises:
        UserError: in one line, for a file that is missing, too large or damaged, or holds anything but plain values.
    """
    data = _bytes(path)
    if len(data) > MAX_PICKLE:
        raise UserError(f"{path} has {len(data):,} bytes, more than the {MAX_PICKLE:,} that are read as a pickle")
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8").load()
    except Exception as error:  # damage makes the unpickler stumble in a dozen ways
        raise UserError(f"cannot read the pickle {path}: {_reason(error)}") from error


def read_json(path: Path) -> Any:
    """The values of a JSON file in UTF-8, with a byte order mark or without, or in cp1252 as some sets have it.

    Raises:
        UserError: in one line, for a file that is missing, cut short or otherwise damaged.
    """
    data = _bytes(path)
    try:
        return json.loads(_text(data))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read the JSON {path}: {_reason(error)}") from error


def as_text(value: object) -> str:
    """A value of a foreign file, where text is due.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(value, str):
        raise TypeError(f"text is due, got {value!r:.60}")
    return value


def as_whole(value: object) -> int:
    """A value of a foreign file, where a whole number is due.

    Raises:
        TypeError: for anything else.
    """
    if type(value) is not int:
        raise TypeError(f"a whole number is due, got {value!r:.60}")
    return value


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
