"""What files hold, as short texts: of which weights a run was begun, and of which data a model was taught."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sam4mllm.runtime.specs import EMBEDDED, TINY

INDICES = ("dataset.json", "targets.json", "talks.json")
"""What names the shards in a folder of samples, of targets and of conversations."""
_WEIGHTS = ("*.safetensors", "*.bin")


def weights(spec: str, embedded: str) -> list[str]:
    """The SHA-256 of each weights file that ``spec`` names, by name.

    Args:
        spec: of an MLLM or a segmenter, as `sam4mllm.runtime.specs` reads it; ``vit_h:FILE`` is that file.
        embedded: which of the embedded models ``tiny`` is: ``mllm`` or ``sam``.

    Returns:
        None for a model without weights, and for one on the hub, whose name is all that is known of it.
    """
    _, colon, path = spec.partition(":")
    if colon:
        return [_hashed(Path(path))]
    return within(EMBEDDED / embedded if spec == TINY else Path(spec))


def within(folder: Path) -> list[str]:
    """The SHA-256 of each weights file of a folder, by name."""
    return [_hashed(file) for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]


def data(folders: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each folder's indices, by their paths; an index names its shards by what they hold."""
    files = [Path(folder) / index for folder in folders for index in INDICES]
    return {str(file): _hashed(file) for file in files if file.is_file()}


def _hashed(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
