"""From a name on a command line to the object it names. Knows every backend, and imports one when it is built.

Names are checked before anything is loaded (`check_*`), so that a slip of the pen does not cost the minutes that a
large model takes to load.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from sam4mllm.errors import UserError

TINY = "tiny"
DTYPES = ("auto", "float32", "bfloat16", "float16")
EMBEDDED = Path(__file__).parents[1] / "tiny" / "weights"
"""The folders of the models that come with the package, which know synthetic scenes."""


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that no weights are loaded in.

    Raises:
        UserError: listing the choices.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: choose from {', '.join(DTYPES)}")


def may_be_hub_or_folder(spec: str) -> bool:
    """A folder that is there, or ``owner/name``; a path that is not there is neither."""
    if spec and Path(spec).is_dir():
        return True
    owner, _, name = spec.partition("/")
    return owner not in ("", ".", "..", "~") and bool(name) and "/" not in name and not Path(spec).exists()


def check_device(device: str | None) -> None:
    """Refuse a device that torch does not know or cannot reach, before the minutes of loading."""
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        raise UserError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def check_file_of(spec: str, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{spec}: no such file: {path}")


def unknown_name(what: str, name: str, choices: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(name, [choice.partition(":")[0] for choice in choices], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    given = f"unknown {what} {name!r}" if name else f"no {what} is set"
    return UserError(f"{given}: {hint}choose from {', '.join(choices)}")
