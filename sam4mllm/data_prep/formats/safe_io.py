"""Reads pickles and JSON files from other projects as plain values.

    read_pickle(Path("refcoco/refs(unc).p"))   ->  [{"ref_id": 5342, "ann_id": 426093, "sentences": [...], ...}, ...]
    read_json(Path("val/1101_sample_o.json"))  ->  {"text": ["…"], "is_sentence": true, "shapes": [...]}

No foreign code runs: a pickle can only name a class or function through `find_class`, which always raises here. A
damaged or hostile file is a one-line `UserError` and takes neither memory nor time out of proportion to its size.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NoReturn

from sam4mllm.errors import UserError

MAX_PICKLE = 2**27
"""Maximum size in bytes: three times the largest known RefCOCO refs file. A byte can take 60 bytes of memory."""

MAX_BITS = 64
"""Maximum bits of an integer. Larger ones can be made to share a hash; a dictionary of them takes quadratic time."""


def _load_list_of(length: int) -> Callable[[Any], None]:
    """The handler of an opcode that builds a tuple of ``length`` values; it builds a list instead."""

    def load(unpickler: Any) -> None:
        start = len(unpickler.stack) - length
        unpickler.stack[start:] = [unpickler.stack[start:]]

    return load


def _load_bounded_int(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """The handler of an opcode that builds an integer; it refuses a large one before that can become a key."""

    def load_bounded(unpickler: Any) -> None:
        load(unpickler)
        _bounded_int(unpickler.stack[-1])

    return load_bounded


class _PlainUnpickler(pickle._Unpickler):
    """Builds lists, dictionaries, numbers and text, and refuses everything else.

    The base class is Python's implementation. The one in C allocates as many memo entries as a pickle claims to need:
    eleven bytes can take 64 GB. Tuples become lists, since hashing a nested tuple that is used as a key can take
    exponential time.
    """

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise UserError(f"it names {module_name}.{global_name}, and refs hold only plain lists, numbers and text")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise UserError(
            f"it names the outside object {short_repr(pid)}, and refs hold only plain lists, numbers and text"
        )

    def _refuse(self) -> None:
        raise UserError("it holds a set or a byte array, and refs hold only plain lists, numbers and text")

    dispatch = {  # noqa: RUF012  as in the base class
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((pickle.BYTEARRAY8[0], pickle.EMPTY_SET[0], pickle.FROZENSET[0]), _refuse),  # type: ignore[arg-type]
        **{
            opcode[0]: _load_bounded_int(pickle._Unpickler.dispatch[opcode[0]])
            for opcode in (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4)
        },
        pickle.TUPLE[0]: pickle._Unpickler.dispatch[pickle.LIST[0]],
        **{
            opcode[0]: _load_list_of(length)
            for length, opcode in enumerate((pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3))
        },
    }


def read_pickle(path: Path) -> Any:
    """Reads the plain values of a pickle of any protocol. Tuples become lists; Python 2 strings are read as UTF-8.

    Raises:
        UserError: if the file is missing, larger than `MAX_PICKLE`, damaged, holds anything but plain values, or
            repeats lists inside lists so that walking it would visit more values than it has bytes.
    """
    data = _read_bytes(path)
    if len(data) > MAX_PICKLE:
        raise UserError(f"{path} has {len(data):,} bytes, more than the {MAX_PICKLE:,} that are read as a pickle")
    try:
        value = _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
        _check_value_count(value, len(data))
    except Exception as error:  # a damaged pickle raises a dozen types
        raise UserError(f"cannot read the pickle {path}: {_reason(error)}") from error
    return value


def read_json(path: Path) -> Any:
    """Reads a JSON file in UTF-8, with or without a byte order mark, or in cp1252, which some data sets use.

    Raises:
        UserError: if the file is missing, damaged, or holds an integer of more than `MAX_BITS` bits.
    """
    data = _read_bytes(path)
    try:
        return json.loads(_decode(data), parse_int=lambda digits: _bounded_int(int(digits)))
    except (ValueError, RecursionError, UserError) as error:
        raise UserError(f"cannot read the JSON {path}: {_reason(error)}") from error


@contextmanager
def format_errors_as_user_errors(place: object, format_name: str) -> Iterator[None]:
    """Turns an error from reading a value of the wrong form into a one-line `UserError`.

    Args:
        place: the file, and possibly the entry in it, for the error message.
        format_name: name of the format, for the error message.

    Raises:
        UserError: for a missing key, a value of another type, or a value that cannot be decoded.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    except KeyError as error:
        raise UserError(f"{place} is not in the format of {format_name}: missing or unknown: {error}") from error
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{place} is not in the format of {format_name}: {type(error).__name__}: {error}") from error


def check_text(value: object) -> str:
    """The value, if it is text.

    Raises:
        TypeError: if it is not, or if it holds a lone surrogate, which cannot be written to a file.
    """
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {short_repr(value)}")
    if not is_valid_text(value):
        raise TypeError(f"expected text, got a lone surrogate (half a character) in {short_repr(value)}")
    return value


def is_valid_text(text: str) -> bool:
    """Whether a text can be written to a file: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_integer(value: object) -> int:
    """The value, if it is an integer.

    Raises:
        TypeError: if it is not.
    """
    if type(value) is not int:
        raise TypeError(f"expected an integer, got {short_repr(value)}")
    return value


def _bounded_int(number: int) -> int:
    if number.bit_length() > MAX_BITS:
        raise UserError(f"it holds an integer of {number.bit_length():,} bits, more than {MAX_BITS}")
    return number


def _check_value_count(value: Any, limit: int) -> None:
    """Refuses a value that holds the same lists so often that walking it would visit more than ``limit`` values."""
    to_visit, count = [value], 0
    while to_visit:
        current = to_visit.pop()
        count += 1
        if count > limit:
            raise UserError("it nests repeated lists that expand to more values than its size in bytes")
        if isinstance(current, dict):
            to_visit += [*current.keys(), *current.values()]
        elif isinstance(current, list):
            to_visit += current


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
