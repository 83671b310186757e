"""Every set that is here: what was found, what is missing, where it comes from; then each is converted.

python -m sam4mllm.data_prep.every --root downloads                           what is there, and all of it converted to data/NAME
python -m sam4mllm.data_prep.every --name refcoco --root downloads --out data/refcoco         one set
python -m sam4mllm.data_prep.every --name refcoco --root downloads --download                 fetched first, as far as it can be
python -m sam4mllm.data_prep.every --name refcocog --split-by google --out data/google          with options of its own
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial as bound
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from sam4mllm.data_prep.readers import coco, grefcoco, labelme, llava_instruct, reasonseg, refcoco
from sam4mllm.cli.data import Images, KeepLeaks, Partial, need_root
from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.download import download as fetched
from sam4mllm.data_prep.download import due, terminal_bar
from sam4mllm.data_prep.checks.official import is_counted
from sam4mllm.data_prep.reading import Reading
from sam4mllm.data_prep.sources import SOURCES
from sam4mllm.errors import UserError

PREPARE: Mapping[str, Callable[..., Reading]] = MappingProxyType(
    {
        **{name: bound(refcoco.prepare, dataset=name) for name in refcoco.SPLIT_BY},
        "grefcoco": grefcoco.prepare,
        "reasonseg": reasonseg.prepare,
        "llava_instruct": llava_instruct.prepare,
        "coco": coco.prepare,
        "labelme": labelme.prepare,
    }
)


def overview(root: Path) -> str:
    """What of each set is below ``root``, and for what is missing where it comes from and where to put it."""
    lines = []
    for source in SOURCES.values():
        missing = source.missing(root)
        state = "found" if not missing else "missing"
        lines.append(f"{source.name} ({source.what}): {state}")
        if not missing and not source.has_pictures(root):
            lines.append(f"    without its pictures: {source.pictures[0]} is due, and they are counted as missing")
        if missing:
            lines.append(f"    due in {root}: {', '.join(missing)}")
            lines += [f"    {file.path}, {file.what}: {file.url or 'see the page'}" for file in due(source, root)]
            lines.append(f"    page: {source.page}")
    return "\n".join(lines)


def _one(
    name: str, root: Path, out: Path, partial: bool, keep_leaks: bool, download: bool, options: Mapping[str, object]
) -> str | None:
    """Convert a set with its own options, fetched first if wanted; what went wrong, if anything did."""
    failed = None
    try:
        if name not in PREPARE:
            raise UserError(f"there is no set {name!r} here: choose one of {', '.join(PREPARE)}")
        _check_options(name, options, partial)
        if download:
            failed = _fetch(name, root)
        else:
            need_root(root)
        convert(PREPARE[name](root, **options), root, out, partial, keep_leaks, typer.echo)
    except UserError as error:
        return failed or str(error)
    return failed


def _check_options(name: str, options: Mapping[str, object], partial: bool) -> None:
    takes = inspect.signature(PREPARE[name]).parameters
    wrong = [option for option in options if option not in takes]
    if partial and not is_counted(name):
        wrong.append("partial")
    if wrong:
        raise UserError(f"{name} has no --{wrong[0].replace('_', '-')}: leave it out")


def _fetch(name: str, root: Path) -> str | None:
    """Fetch what can be; why something could not. What is there may be enough to be converted all the same."""
    try:
        left = fetched(SOURCES[name], root, say=typer.echo, bar=terminal_bar)
    except UserError as error:
        return str(error)
    if left:
        typer.echo(left)
    return None


def _all(root: Path, out: Path, partial: bool, keep_leaks: bool, download: bool) -> list[str]:
    """Convert all that is there, or of which anything can be fetched; what went wrong with which."""
    if not root.is_dir():
        typer.echo(f"there is no folder {root} yet")
    typer.echo(overview(root))
    wrong = []
    for source in SOURCES.values():
        if not source.missing(root) or (download and source.files):
            typer.echo(f"\n{source.name} -> {out / source.name}")
            some = partial and is_counted(source.name)
            error = _one(source.name, root, out / source.name, some, keep_leaks, download, {})
            wrong += [f"{source.name}: {error}"] if error else []
    return wrong


def main(
    name: Annotated[str | None, typer.Option(help=f"One of {', '.join(PREPARE)}; all that are found if none.")] = None,
    root: Annotated[Path, typer.Option(help="The folder that holds the raw files.")] = Path("downloads"),
    out: Annotated[Path | None, typer.Option(help="data, with a folder for each set; data/NAME for one.")] = None,
    split_by: Annotated[str | None, typer.Option(help="refcoco, refcoco+, refcocog: unc, umd or google.")] = None,
    split: Annotated[str | None, typer.Option(help="coco, labelme: of what does not say its split.")] = None,
    images: Images = None,
    partial: Partial = False,
    keep_leaks: KeepLeaks = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing and has an address.")] = False,
) -> None:
    """Say what is found and missing, and convert it; or convert one set."""
    given = {"split_by": split_by, "split": split, "images": images}
    options = {option: value for option, value in given.items() if value is not None}
    if name is not None:
        error = _one(name, root, out or Path("data") / name, partial, keep_leaks, download, options)
        wrong = [error] if error else []
    elif options:
        wrong = [f"--{next(iter(options)).replace('_', '-')} is of one set: give its --name"]
    else:
        wrong = _all(root, out or Path("data"), partial, keep_leaks, download)
    for line in wrong:
        typer.echo(f"error: {line}", err=True)
    if wrong:
        raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
