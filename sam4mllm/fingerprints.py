"""What the files of a model hold, as short texts: whether a run goes on with the weights that it was begun with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sam4mllm.builders import EMBEDDED, TINY

_WEIGHTS = ("*.safetensors", "*.bin")


def weights(spec: str, embedded: str) -> list[str]:
    """The SHA-256 of each weights file that ``spec`` names, by name.

    Args:
        spec: of an MLLM or a segmenter, as `sam4mllm.builders` reads it; ``vit_h:FILE`` is that file.
        embedded: which of the embedded models ``tiny`` is: ``mllm`` or ``sam``.

    Returns:
        None for a model without weights, and for one on the hub, whose name is all that is known of it.
    """
    _, colon, path = spec.partition(":")
    if colon:
        return [_hashed(Path(path))]
    folder = EMBEDDED / embedded if spec == TINY else Path(spec)
    return [_hashed(file) for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]


def _hashed(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
