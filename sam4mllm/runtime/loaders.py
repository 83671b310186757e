"""Tables of loaders: how a name on the command line or in a recipe becomes an MLLM, a segmenter or a prompter.

A name is one of the table (``tiny``, ``vit_b:FILE``), an entry point of an installed package, ``module:Class`` for
anything that can be imported, or, if the table has a row for it, a folder or hub name of a transformers model.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam4mllm.errors import UserError
from sam4mllm.runtime.specs import check_device, may_be_hub_or_folder, unknown_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE = "FILE"


def options_of(spec: DataclassInstance) -> dict[str, Any]:
    """The values of a spec that differ from their defaults, without its first field, the name."""
    values = {option.name: (getattr(spec, option.name), option.default) for option in fields(spec)[1:]}
    return {name: value for name, (value, default) in values.items() if value != default}


@dataclass(frozen=True, slots=True)
class Loader:
    """One row of a table.

    Attributes:
        target: ``module:attribute`` of a callable. It is imported when it is needed, and returns the loaded object.
        options: the keyword arguments of the user that the callable takes; None reads them from its signature.
        argument: what follows the name and a colon: ``FILE`` for an existing file, or nothing.
        arguments: positional arguments that are the same in every call.
        fixed: keyword arguments that are the same in every call.
        capabilities: what the loaded object supports, if that is known before it is loaded.
        is_transformers: whether the first argument is the folder or hub name of a transformers model.
    """

    target: str
    options: frozenset[str] | None = None
    argument: str = ""
    arguments: tuple[Any, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Any = None
    is_transformers: bool = False

    def with_argument(self, argument: Any) -> Loader:
        return replace(self, argument="", arguments=(*self.arguments, argument))

    def callable(self) -> Callable[..., Any]:
        """The callable, imported now."""
        loaded: Callable[..., Any] = EntryPoint("", self.target, "").load()
        return loaded

    def accepts(self, option: str) -> bool:
        """Whether the callable takes this option of the user."""
        if self.options is not None:
            return option in self.options
        parameters = inspect.signature(self.callable()).parameters.values()
        return any(parameter.name == option or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    def load(self, options: Mapping[str, Any]) -> Any:
        """Call the target with those options that it takes."""
        return self.callable()(
            *self.arguments, **self.fixed, **{name: value for name, value in options.items() if self.accepts(name)}
        )


@dataclass(frozen=True, slots=True)
class LoaderTable:
    """The loaders of one kind of object.

    Attributes:
        kind: ``MLLM``, ``segmenter`` or ``prompter``, for messages.
        group: the group of entry points that adds rows from other packages.
        rows: loaders by name.
        transformers: the loader of folders and hub names; None if the kind has none.
    """

    kind: str
    group: str
    rows: Mapping[str, Loader]
    transformers: Loader | None = None

    def choices(self) -> list[str]:
        """The names that users may write, for help texts and messages."""
        names = [f"{name}:{row.argument}" if row.argument else name for name, row in self.rows.items()]
        plugins = [entry.name for entry in entry_points(group=self.group) if entry.name not in self.rows]
        models = ["a folder", "a hub name (owner/name)"] if self.transformers else []
        return [*names, *sorted(plugins), *models, "module:Class"]

    def find(self, spec: str) -> Loader:
        """The loader of a name, with the argument that the name contains.

        Raises:
            UserError: if the name is unknown (the message lists the choices), a file is missing, or the module of
                another package cannot be imported.
        """
        name, colon, argument = spec.partition(":")
        row = self.rows.get(name)
        if row is not None and bool(colon) == bool(row.argument):
            if not colon:
                return row
            if not Path(argument).is_file():
                raise UserError(f"{spec}: no such file: {argument}")
            return row.with_argument(Path(argument))
        if row is None and (entries := tuple(entry_points(group=self.group, name=name))):
            loader = _import_loader(spec, entries[0].value)
            return loader.with_argument(argument) if colon else loader
        if row is None and colon and (target := _importable(spec)):
            loader = _import_loader(spec, target.value)
            argument = spec.removeprefix(target.value)
            return loader.with_argument(argument.removeprefix(":")) if argument else loader
        if self.transformers is not None and may_be_hub_or_folder(spec):
            return self.transformers.with_argument(spec)
        raise unknown_name(self.kind, spec, self.choices())

    def load(self, spec: Any) -> Any:
        """Load what a spec with a name and a device stands for, with its options that the loader takes."""
        loader = self.find(spec.name)
        if loader.accepts("device"):
            check_device(spec.device)
        return loader.load(options_of(spec))

    def check_options(self, spec: str, loader: Loader, options: Mapping[str, Any]) -> None:
        """Check that the loader takes the options.

        Raises:
            UserError: naming the first option that it does not take.
        """
        for option in options:
            if not loader.accepts(option):
                raise UserError(f"the {self.kind} {spec} does not support {option.replace('_', '-')}: leave it out")


def _importable(spec: str) -> EntryPoint | None:
    """The reference ``module:Class`` at the start of a name, if such a module exists. The working folder counts."""
    module, attribute = spec.split(":")[:2]
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        return None
    if os.getcwd() not in sys.path:  # noqa: PTH109  a script's own folder is there already, as for `python -m`
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        is_module = importlib.util.find_spec(module) is not None
    except Exception:  # finding a submodule imports its package, which may raise anything
        is_module = False
    return EntryPoint(spec, f"{module}:{attribute}", "") if is_module else None


def _import_loader(spec: str, target: str) -> Loader:
    """The loader of another package's callable; its capabilities are the attribute ``capabilities`` of a class."""
    loader = Loader(target)
    try:
        loaded = loader.callable()
        inspect.signature(loaded)
    except Exception as error:  # another package's module may raise anything
        raise UserError(f"{spec} cannot be imported: {str(error) or type(error).__name__}") from error
    return Loader(target, capabilities=getattr(loaded, "capabilities", None) if inspect.isclass(loaded) else None)
