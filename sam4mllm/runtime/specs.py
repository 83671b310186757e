"""Checks of names and options of models, before anything is loaded.

A large model takes minutes to load; a typing error is reported before that.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from sam4mllm.errors import UserError

TINY = "tiny"
DTYPES = ("auto", "float32", "bfloat16", "float16")
EMBEDDED = Path(__file__).parents[1] / "tiny" / "weights"
"""Folder of the embedded models, which were trained on synthetic scenes."""


def check_dtype(dtype: str) -> None:
    """Check the name of a dtype.

    Raises:
        UserError: if it is unknown; it lists the choices.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: choose from {', '.join(DTYPES)}")


def may_be_hub_or_folder(spec: str) -> bool:
    """Whether a name is an existing folder, or has the form ``owner/name`` of the hub."""
    if spec and Path(spec).is_dir():
        return True
    owner, _, name = spec.partition("/")
    return owner not in ("", ".", "..", "~") and bool(name) and "/" not in name and not Path(spec).exists()


def check_device(device: str | None) -> None:
    """Check that torch can use a device.

    Raises:
        UserError: if it cannot.
    """
    if device is None:
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
        raise UserError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def unknown_name(what: str, name: str, choices: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(name, [choice.partition(":")[0] for choice in choices], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    problem = f"unknown {what} {name!r}" if name else f"no {what} is set"
    return UserError(f"{problem}: {hint}choose from {', '.join(choices)}")
