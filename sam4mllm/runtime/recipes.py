"""The recipes that ship with the package, found alike from a checkout, an editable install and a wheel."""

from __future__ import annotations

import difflib
from pathlib import Path

from sam4mllm.errors import UserError

_PACKAGE = Path(__file__).parents[1]
FOLDER = next((folder for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes") if folder.is_dir()), None)
"""The recipes that ship: in the package when installed, beside it in a checkout."""


def recipe_names() -> list[str]:
    """The names of the recipes that ship, without folder and ending: ``lora``, ``tiny/demo``."""
    if FOLDER is None:
        return []
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))


def shipped_file(name: str) -> Path | None:
    """The file that ships under a name such as ``lora`` or ``recipes/lora.yaml``; a chat template too."""
    if FOLDER is None:
        return None
    relative = name.removeprefix("recipes/")
    files = (FOLDER / relative, FOLDER / f"{relative}.yaml")
    return next((file for file in files if file.is_file() and file.resolve().is_relative_to(FOLDER.resolve())), None)


def recipe_file(name: str) -> Path:
    """A file that is there, else the recipe that ships under that name.

    Raises:
        UserError: for neither, with the nearest name.
    """
    return Path(name) if Path(name).is_file() else shipped_recipe(name)


def shipped_recipe(name: str) -> Path:
    """The recipe that ships under a name.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    file = shipped_file(name)
    if file is None:
        near = difflib.get_close_matches(name, recipe_names(), 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"no such recipe: {name}: give a YAML file, or a name that `sam4mllm recipe` lists{hint}")
    return file
