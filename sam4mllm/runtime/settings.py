"""Parses YAML and key=value pairs into typed, frozen dataclasses.

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
    """Read a recipe file into a dataclass.

    Args:
        path: the YAML file.
        kind: the dataclass.
        overrides: ``key=value`` pairs; dots reach nested keys, and numbers the entries of lists.

    Raises:
        UserError: if the file is missing or no YAML mapping, a key is unknown (the message suggests the nearest one),
            or a value has another type than its field.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"the recipe {path} is not a mapping of keys to values")
    for override in overrides:
        _set(values, override)
    return parse_mapping(values, kind)


def parse_mapping(values: Mapping[str, Any], kind: type[T], where: str = "") -> T:
    """Convert a mapping to a dataclass with fields of plain values, tuples or further dataclasses.

    A dataclass may have the class variables ``RENAMED`` (old keys to new ones) and ``REFUSED`` (keys to reasons).

    Args:
        values: the mapping.
        kind: the dataclass.
        where: prefix of the keys in messages.

    Raises:
        UserError: as in `load`.
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


def _check_keys(values: Mapping[str, Any], kind: type, field_names: Sequence[str], where: str) -> None:
    renamed, refused = vars(kind).get("RENAMED", {}), vars(kind).get("REFUSED", {})
    old = [f"{where}{key} is now {where}{renamed[key]}" for key in values if key in renamed]
    if old:
        raise UserError("; ".join(old))
    for key in values:
        if key in refused:
            raise UserError(f"{where}{key} cannot be set: {refused[key]}")
        if key not in field_names:
            near = difflib.get_close_matches(str(key), field_names, 1)
            few = ", ".join(field_names[:MOST_KNOWN]) + (", ..." if len(field_names) > MOST_KNOWN else "")
            hint = f"did you mean {near[0]}?" if near else f"choose from {few}"
            raise UserError(f"unknown recipe key {where}{key}: {hint}")


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} is not key=value")
    *path, last = key.split(".")
    place: Any = values
    for name in path:
        place = _inside(place, name, key)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the value of {key} is not valid YAML: {text!r}") from error
    place[_slot(place, last, key)] = value


def _inside(place: Any, name: str, key: str) -> Any:
    """The value at a key of a mapping or a number of a list; a missing value becomes an empty mapping."""
    slot = _slot(place, name, key)
    if isinstance(place, dict) and place.get(slot) is None:
        place[slot] = {}
    inner = place[slot]
    if not isinstance(inner, dict | list):
        raise UserError(f"the recipe key {name} holds no further keys, so {key} cannot be set")
    return inner


def _slot(place: Any, name: str, key: str) -> Any:
    """The key of a mapping, or the index of a list; the list's length appends a new entry."""
    if isinstance(place, dict):
        return name
    if not name.isdecimal() or int(name) > len(place):
        choices = ", ".join([*map(str, range(len(place))), f"{len(place)} for a new entry"])
        raise UserError(f"{key} cannot be set: {name!r} is not one of {choices}")
    if int(name) == len(place):
        place.append({})
    return int(name)


def _value(value: Any, hint: Any, where: str) -> Any:
    """Convert ``value`` to the type ``hint``. YAML reads 1e-3 as a string and 1 as an integer; both become floats."""
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
        raise UserError(f"the recipe key {where} must be one of {', '.join(map(str, arguments))}, got {value!r}{hint}")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return parse_mapping(value, hint, f"{where}.")
    if origin is tuple and isinstance(value, list):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            return tuple(_value(*pair, f"{where}.{at}") for at, pair in enumerate(zip(value, inner, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {key: _value(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"the recipe key {where} must be {_type_name(hint)}, got {value!r}")


def _any_of(value: Any, hint: Any, where: str) -> Any:
    """Convert ``value`` to the first type of a union that accepts it."""
    alternatives = [alternative for alternative in typing.get_args(hint) if alternative is not types.NoneType]
    if value is None and len(alternatives) < len(typing.get_args(hint)):
        return None
    if len(alternatives) == 1:
        return _value(value, alternatives[0], where)
    for alternative in alternatives:
        with contextlib.suppress(UserError):
            return _value(value, alternative, where)
    raise UserError(f"the recipe key {where} must be {' or '.join(map(_type_name, alternatives))}, got {value!r}")


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
