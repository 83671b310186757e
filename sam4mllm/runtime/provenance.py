"""What a result depends on: versions, weights and data, recorded with it and compared before a run resumes.

Predictions, targets, training runs and adapters record the same values: library versions by name, and SHA-256 digests
of weights and of data. `check_same` compares a record with the current values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sam4mllm import __version__
from sam4mllm.errors import UserError
from sam4mllm.runtime.specs import EMBEDDED, TINY

INDICES = ("dataset.json", "targets.json", "talks.json")
"""The index files of sample, target and conversation folders."""
_WEIGHTS = ("*.safetensors", "*.bin")
_MAX_DIFFERENCES = 3  # in an error message
_MAX_VALUE_CHARS = 40  # in an error message


def versions(*libraries: str) -> dict[str, str]:
    """The versions of this package and of installed libraries, by name."""
    return {"sam4mllm": __version__, **{name: version(name) for name in libraries}}


def hash_weights(spec: str, embedded: str) -> list[str]:
    """The SHA-256 of each weights file of a model.

    Args:
        spec: the name of an MLLM or a segmenter; for ``vit_h:FILE``, FILE is hashed.
        embedded: the embedded model that ``tiny`` stands for: ``mllm`` or ``sam``.

    Returns:
        Digests in the order of the file names. Empty if the model has no weights or is on the hub.
    """
    _, _, path = spec.partition(":")
    if Path(path).is_file():
        return [_digest(Path(path))]
    return hash_weights_in(EMBEDDED / embedded if spec == TINY else Path(spec))


def hash_weights_in(folder: Path) -> list[str]:
    """The SHA-256 of each weights file in a folder, in the order of the file names."""
    return [_digest(file) for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]


def hash_indices(folders: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each folder's index files, by path.

    An index contains the digests of its shards, so it stands for all the data.
    """
    files = [Path(folder) / index for folder in folders for index in INDICES]
    return {str(file): _digest(file) for file in files if file.is_file()}


def check_same(stored: Mapping[str, Any], current: Mapping[str, Any], subject: str, remedy: str) -> None:
    """Check that a result was started with the current values.

    Args:
        stored: the values recorded with the result.
        current: the values now.
        subject: what was started, for the message.
        remedy: what the user can do, for the message.

    Raises:
        UserError: if a value differs; the message names the first differences with both values.
    """
    before, now = flatten(stored), flatten(current)
    changes = [
        f"{key} {_format(before.get(key))}, now {_format(now.get(key))}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changes:
        more = "; ..." if len(changes) > _MAX_DIFFERENCES else ""
        raise UserError(f"{subject} was started with {'; '.join(changes[:_MAX_DIFFERENCES])}{more}: {remedy}")


def flatten(values: Any, path: str = "") -> dict[str, Any]:
    """Nested values by dotted keys, with numbers for list entries, as in overrides."""
    if not isinstance(values, Mapping | list | tuple):
        return {path: values}
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    prefix = f"{path}." if path else ""
    return {key: leaf for name, value in pairs for key, leaf in flatten(value, f"{prefix}{name}").items()}


def _format(value: Any) -> str:
    text = str(value)
    return "nothing" if value is None else text if len(text) <= _MAX_VALUE_CHARS else f"{text[:_MAX_VALUE_CHARS]}..."


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
