"""Every data set that is here: what was found, what is missing, where it comes from; then each is converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial as bound
from pathlib import Path
from types import MappingProxyType

from sam4mllm.data_prep.checks.official import is_counted
from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.download import Bar, download
from sam4mllm.data_prep.readers import coco, grefcoco, labelme, llava_instruct, reasonseg, refcoco
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
            for file in source.missing_files(root):
                lines.append(f"    {file.path}, {file.what}: {file.url or 'see the page'}")
            lines.append(f"    page: {source.page}")
    return "\n".join(lines)


def convert_set(
    name: str,
    root: Path,
    out: Path,
    say: Callable[[str], None],
    bar: Bar | None = None,
    partial: bool = False,
    keep_leaks: bool = False,
    **options: object,
) -> None:
    """Read one set and write its splits; what is there is converted even where something could not be fetched.

    Args:
        name: a key of `PREPARE`.
        root: the folder of the raw files.
        out: the set's own folder.
        say: shows what was done.
        bar: shows how far a download is; nothing is fetched where None.
        partial: whether counts may differ from the official ones.
        keep_leaks: whether training splits keep the pictures that any set measures on.
        options: the reader's own, by the names of its arguments.

    Raises:
        UserError: for what could not be fetched, else for what could not be converted.
    """
    failed = _fetch(name, root, say, bar) if bar else None
    try:
        if not bar and not root.is_dir():
            raise UserError(f"no such folder: {root}, where the raw files are due (--root)")
        convert(PREPARE[name](root, **options), root, out, partial, keep_leaks, say)
    except UserError as error:
        raise failed or error from None
    if failed:
        raise failed


def _fetch(name: str, root: Path, say: Callable[[str], None], bar: Bar) -> UserError | None:
    """Fetch what can be; why something could not."""
    try:
        left = download(SOURCES[name], root, say=say, bar=bar)
    except UserError as error:
        return error
    if left:
        say(left)
    return None


def convert_all(
    root: Path, out: Path, say: Callable[[str], None], bar: Bar | None, partial: bool, keep_leaks: bool
) -> list[str]:
    """Convert all that is there, or of which anything can be fetched; what went wrong with which.

    Args:
        root: the folder of the raw files of all sets.
        out: gets a folder for each set.
        say: shows what was done.
        bar: as of `convert_set`.
        partial: as of `convert_set`; of sets that have official counts.
        keep_leaks: as of `convert_set`.
    """
    if not root.is_dir():
        say(f"there is no folder {root} yet")
    say(overview(root))
    wrong = []
    for name, source in SOURCES.items():
        if not source.missing(root) or (bar and source.files):
            say(f"\n{name} -> {out / name}")
            try:
                convert_set(name, root, out / name, say, bar, partial and is_counted(name), keep_leaks)
            except UserError as error:
                wrong.append(f"{name}: {error}")
    return wrong
