"""YAML and key=value pairs into one typed, frozen dataclass. Knows nothing of what the values are for.

>>> load(Path("my.yaml"), SamTraining, ["steps=10", "seed=1"])
SamTraining(out='out/tiny/sam', seed=1, steps=10, ...)
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sam4mllm.errors import UserError

T = TypeVar("T")
MOST_KNOWN = 20  # keys that an error lists


def load(path: Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """A recipe file as a ``kind``, with ``key=value`` pairs over it; dots reach nested values, and lists by number.

    Raises:
        UserError: for a file that is missing or no YAML mapping, an unknown key (with the nearest known one), or a
            value of another type than the dataclass asks for.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"the recipe {path} is no mapping of keys to values")
    for override in overrides:
        _set(values, override)
    return parsed(values, kind)


def parsed(values: Mapping[str, Any], kind: type[T], where: str = "") -> T:
    """A mapping as a ``kind``, a dataclass whose fields are plain values, tuples or further dataclasses.

    A dataclass may have the class variables ``RENAMED``, old keys to new ones, and ``REFUSED``, keys to reasons.

    Raises:
        UserError: as `load` does; ``where`` stands before the keys that it names.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _check_keys(values, kind, list(fields), where)
    hints = typing.get_type_hints(kind)
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"the recipe lacks {', '.join(where + name for name in missing)}")
    return kind(**{key: _value(value, hints[key], f"{where}{key}") for key, value in values.items()})


def _check_keys(values: Mapping[str, Any], kind: type, known: Sequence[str], where: str) -> None:
    renamed, refused = vars(kind).get("RENAMED", {}), vars(kind).get("REFUSED", {})
    old = [f"{where}{key} is now {where}{renamed[key]}" for key in values if key in renamed]
    if old:
        raise UserError("; ".join(old))
    for key in values:
        if key in refused:
            raise UserError(f"{where}{key} cannot be set: {refused[key]}")
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            few = ", ".join(known[:MOST_KNOWN]) + (", ..." if len(known) > MOST_KNOWN else "")
            hint = f"did you mean {near[0]}?" if near else f"known are {few}"
            raise UserError(f"unknown recipe key {where}{key}: {hint}")


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"an override is key=value, got {override!r}")
    *path, last = key.split(".")
    place: Any = values
    for name in path:
        place = _inside(place, name, key)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the value of {key} is no YAML: {text!r}") from error
    place[_slot(place, last, key)] = value


def _inside(place: Any, name: str, key: str) -> Any:
    """What a mapping or a list holds at a name or a number; an empty mapping is put where it holds nothing yet."""
    slot = _slot(place, name, key)
    if isinstance(place, dict) and place.get(slot) is None:
        place[slot] = {}
    inner = place[slot]
    if not isinstance(inner, dict | list):
        raise UserError(f"the recipe key {name} holds no further keys, so {key} cannot be set")
    return inner


def _slot(place: Any, name: str, key: str) -> Any:
    """Where in a mapping or a list: a list takes the numbers of its entries, and the next one for a new entry."""
    if isinstance(place, dict):
        return name
    if not name.isdecimal() or int(name) > len(place):
        choices = ", ".join([*map(str, range(len(place))), f"{len(place)} for a new entry"])
        raise UserError(f"{key} cannot be set: {name!r} is none of {choices}")
    if int(name) == len(place):
        place.append({})
    return int(name)


def _value(value: Any, hint: Any, where: str) -> Any:
    """``value`` as ``hint`` asks for; YAML's 1e-3 is a text and its 1 an integer, both good as a float."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _any_of(value, hint, where)
    if hint is Any:
        return value
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        near = difflib.get_close_matches(str(value), map(str, arguments), 1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise UserError(f"the recipe key {where} is one of {', '.join(map(str, arguments))}, got {value!r}{hint}")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return parsed(value, hint, f"{where}.")
    if origin is tuple and isinstance(value, list):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            return tuple(_value(*pair, f"{where}.{at}") for at, pair in enumerate(zip(value, inner, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {key: _value(one, arguments[1], f"{where}.{key}") for key, one in value.items()}
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"the recipe key {where} takes {_named(hint)}, got {value!r}")


def _any_of(value: Any, hint: Any, where: str) -> Any:
    """``value`` as the first type of a union that takes it."""
    alternatives = [alternative for alternative in typing.get_args(hint) if alternative is not types.NoneType]
    if value is None and len(alternatives) < len(typing.get_args(hint)):
        return None
    if len(alternatives) == 1:
        return _value(value, alternatives[0], where)
    for alternative in alternatives:
        with contextlib.suppress(UserError):
            return _value(value, alternative, where)
    raise UserError(f"the recipe key {where} takes {' or '.join(map(_named, alternatives))}, got {value!r}")


def _named(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
