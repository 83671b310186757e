"""SHA-256 hashes that record which weights made a result, and which data a model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sam4mllm.runtime.specs import EMBEDDED, TINY

INDICES = ("dataset.json", "targets.json", "talks.json")
"""Index files, which name the shards in a folder of samples, targets or conversations."""
_WEIGHTS = ("*.safetensors", "*.bin")


def weights(spec: str, embedded: str) -> list[str]:
    """The SHA-256 of each weights file of a model, in the order of the file names.

    Args:
        spec: name of an MLLM or a segmenter, see `sam4mllm.runtime.specs`; ``vit_h:FILE`` has that one file.
        embedded: the embedded model that ``tiny`` means: ``mllm`` or ``sam``.

    Returns:
        The hashes; an empty list for a model without weights, and for a model on the hub.
    """
    _, colon, path = spec.partition(":")
    if colon:
        return [_hashed(Path(path))]
    return within(EMBEDDED / embedded if spec == TINY else Path(spec))


def within(folder: Path) -> list[str]:
    """The SHA-256 of each weights file of a folder, in the order of the file names."""
    return [_hashed(file) for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]


def data(folders: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each folder's index files, by path. An index covers its shards, because it has their hashes."""
    files = [Path(folder) / index for folder in folders for index in INDICES]
    return {str(file): _hashed(file) for file in files if file.is_file()}


def _hashed(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
