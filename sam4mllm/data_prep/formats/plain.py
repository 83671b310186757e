"""Foreign files as plain values, which run no code and end in one line where they are damaged: pickles and JSON.

    read_pickle(Path("refcoco/refs(unc).p"))   ->  [{"ref_id": 5342, "ann_id": 426093, "sentences": [...], ...}, ...]
    read_json(Path("val/1101_sample_o.json"))  ->  {"text": ["…"], "is_sentence": true, "shapes": [...]}

Knows nothing of what the values mean.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NoReturn

from sam4mllm.errors import UserError

MAX_PICKLE = 2**27
"""Bytes; the largest refs of the known sets have a third of it. A byte of a pickle can become 60 in memory."""

MAX_BITS = 64
"""Of a whole number: of larger ones any number have the same hash, and as keys each is held against all before it."""


_TUPLES = (pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
_WHOLE = (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4)
_REFUSED = (pickle.BYTEARRAY8, pickle.EMPTY_SET, pickle.FROZENSET)


def _listed(count: int) -> Callable[[Any], None]:
    """What reads a tuple of so many values, as a list."""

    def load(reader: Any) -> None:
        cut = len(reader.stack) - count
        reader.stack[cut:] = [reader.stack[cut:]]

    return load


def _bounded(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """What reads a whole number, and refuses one that is too large before it can be a key."""

    def bounded(reader: Any) -> None:
        load(reader)
        _whole(reader.stack[-1])

    return bounded


class _Plain(pickle._Unpickler):
    """Reads lists, dictionaries, numbers and text; whatever else a pickle could name is refused, not imported.

    Tuples are read as lists: one that holds another twice, and so on, takes for ever where it is a key.

    The unpickler that is written in Python: that in C sets aside room for as many values as a pickle claims to hold,
    so ten bytes can ask for all of the memory.
    """

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise UserError(f"it names {module_name}.{global_name}, and refs hold plain lists, numbers and text alone")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise UserError(f"it names the outside object {shown(pid)}, and refs hold plain lists, numbers and text alone")

    def _refused(self) -> None:
        raise UserError("it holds a set or a byte array, and refs hold plain lists, numbers and text alone")

    dispatch = {  # noqa: RUF012  as the class above has it
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((code[0] for code in _REFUSED), _refused),  # type: ignore[arg-type]
        **{code[0]: _bounded(pickle._Unpickler.dispatch[code[0]]) for code in _WHOLE},
        pickle.TUPLE[0]: pickle._Unpickler.dispatch[pickle.LIST[0]],
        **{code[0]: _listed(count) for count, code in enumerate(_TUPLES)},
    }


def read_pickle(path: Path) -> Any:
    """The plain values of a pickle of any protocol, tuples as lists; text of Python 2 is read as UTF-8.

    Raises:
        UserError: in one line, for a file that is missing, too large or damaged, holds anything but plain values, or
            would hold more values than bytes, written out: a list can hold another one twice, and so on.
    """
    data = _bytes(path)
    if len(data) > MAX_PICKLE:
        raise UserError(f"{path} has {len(data):,} bytes, more than the {MAX_PICKLE:,} that are read as a pickle")
    try:
        value = _Plain(io.BytesIO(data), encoding="utf-8").load()
        _check_bounded(value, len(data))
    except Exception as error:  # damage makes the unpickler stumble in a dozen ways
        raise UserError(f"cannot read the pickle {path}: {_reason(error)}") from error
    return value


def read_json(path: Path) -> Any:
    """The values of a JSON file in UTF-8, with a byte order mark or without, or in cp1252 as some sets have it.

    Raises:
        UserError: in one line, for a file that is missing, cut short or otherwise damaged, or holds a whole number of
            more than `MAX_BITS`.
    """
    data = _bytes(path)
    try:
        return json.loads(_text(data), parse_int=lambda digits: _whole(int(digits)))
    except (ValueError, RecursionError, UserError) as error:
        raise UserError(f"cannot read the JSON {path}: {_reason(error)}") from error


def as_text(value: object) -> str:
    """A value of a foreign file, where text is due.

    Raises:
        TypeError: for anything else, and for halves of letters, which no file can hold.
    """
    if not isinstance(value, str):
        raise TypeError(f"text is due, got {shown(value)}")
    if not is_sound(value):
        raise TypeError(f"text is due, got half a letter (a lone surrogate) in {shown(value)}")
    return value


def is_sound(text: str) -> bool:
    """Whether a text can be written: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_whole(value: object) -> int:
    """A value of a foreign file, where a whole number is due.

    Raises:
        TypeError: for anything else.
    """
    if type(value) is not int:
        raise TypeError(f"a whole number is due, got {shown(value)}")
    return value


def _whole(number: int) -> int:
    if number.bit_length() > MAX_BITS:
        raise UserError(f"it holds a whole number of {number.bit_length():,} bits, and {MAX_BITS} at most are due")
    return number


def _check_bounded(value: Any, most: int) -> None:
    """Make sure that a value can be walked through."""
    waiting, seen = [value], 0
    while waiting:
        one = waiting.pop()
        seen += 1
        if seen > most:
            raise UserError("it holds the same lists over and over, more values than it has bytes")
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


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
