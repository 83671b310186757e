"""Finds the recipes that ship with the package, in a checkout, an editable install or a wheel."""

from __future__ import annotations

import difflib
from pathlib import Path

from sam4mllm.errors import UserError

_PACKAGE = Path(__file__).parents[1]
FOLDER = next((folder for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes") if folder.is_dir()), None)
"""Folder of the recipes: inside the installed package, or next to the package in a checkout."""


def recipe_names() -> list[str]:
    """The sorted names of the shipped recipes, without the suffix: ``lora``, ``tiny/demo``."""
    if FOLDER is None:
        return []
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))


def shipped_file(name: str) -> Path | None:
    """The shipped recipe or chat template with a name such as ``lora`` or ``recipes/lora.yaml``, or None."""
    if FOLDER is None:
        return None
    relative = name.removeprefix("recipes/")
    files = (FOLDER / relative, FOLDER / f"{relative}.yaml")
    return next((file for file in files if file.is_file() and file.resolve().is_relative_to(FOLDER.resolve())), None)


def recipe_file(name: str) -> Path:
    """An existing file, else the shipped recipe with that name.

    Raises:
        UserError: if there is neither; it suggests the nearest name.
    """
    return Path(name) if Path(name).is_file() else shipped_recipe(name)


def shipped_recipe(name: str) -> Path:
    """The shipped recipe with a name.

    Raises:
        UserError: if there is none; it suggests the nearest name.
    """
    file = shipped_file(name)
    if file is None:
        near = difflib.get_close_matches(name, recipe_names(), 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"no such recipe: {name}: give a YAML file, or a name that `sam4mllm recipe` lists{hint}")
    return file
