"""Fetch what a set needs: its files, by the table of `sources`, checked and unpacked where they have to lie.

    sam4mllm data download refcoco --root downloads          what is missing and where it would come from; no more
    sam4mllm data download refcoco --root downloads --yes    fetch it

Run it again after anything went wrong: what is there is not fetched again, and what is half there goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from sam4mllm.data_prep.fetch import Patience, fetch
from sam4mllm.data_prep.hub import fetch_from_hub, is_on_hub
from sam4mllm.data_prep.remote import Remote, free_space, is_whole, need_room
from sam4mllm.data_prep.sources import SOURCES, File, Source
from sam4mllm.data_prep.unpack import is_archive, is_unpacked, unpack
from sam4mllm.errors import UserError

Tell: TypeAlias = Callable[[int, int | None], None]
Bar: TypeAlias = Callable[[str], AbstractContextManager[Tell]]


def due(source: Source, root: Path) -> list[File]:
    """The files of a set that are still to be fetched or unpacked, those that can only be had by hand among them.

    What was put there by hand counts: an archive is not due where what it brings is there, unless the archive itself
    lies there and was never unpacked to its end.
    """
    return [file for file in source.files if _is_due(file, source, root)]


def download(
    source: Source,
    root: Path,
    *,
    say: Callable[[str], None],
    bar: Bar,
    patience: Patience | None = None,
    free: Callable[[Path], int] = free_space,
) -> str:
    """Fetch and unpack all of a set that has an address.

    Args:
        source: the set.
        root: made if need be.
        say: told in a line what was done.
        bar: what shows how far a file is.
        patience: with the servers.
        free: how many bytes are free on the disk of a folder.

    Returns:
        In one line what is not there and has no address; empty where nothing is left.

    Raises:
        UserError: in one line, where all does not fit on the disk, and for the first file that cannot be had.
    """
    files = due(source, root)
    reachable = [file for file in files if file.url is not None]
    need_room(source.name, sum(_missing_bytes(file, root) for file in reachable), root, free)
    for file in reachable:
        _get(file, root, say, bar, patience, free)
    by_hand = ", ".join(file.path for file in files if file.url is None)
    return by_hand and f"{source.name} has files without an address, see {source.page}; due in {root}: {by_hand}"


def source_named(name: str) -> Source:
    """A set that has files to fetch.

    Raises:
        UserError: for an unknown set, and for your own data.
    """
    if name not in SOURCES:
        raise UserError(f"there is no set {name!r} here: choose one of {', '.join(SOURCES)}")
    if not SOURCES[name].files:
        raise UserError(f"{name} is {SOURCES[name].what}: nothing to fetch; {SOURCES[name].page} says where")
    return SOURCES[name]


def plan(source: Source, root: Path) -> str:
    """What `download` would do, a line for each file."""
    lines = [
        f"{file.path}, {file.what}, {_size(file)}: {file.url or f'by hand, see {source.page}'}"
        for file in due(source, root)
    ]
    return "\n".join(lines) or f"{source.name}: all is there"


def _is_due(file: File, source: Source, root: Path) -> bool:
    target = root / file.path
    if not is_archive(file.path):
        return not (target.is_dir() or is_whole(_remote(file), target) or source.has_instead(root, file.path))
    if is_unpacked(target):
        return False
    if target.exists():
        return True
    brings_pictures = file.path.rpartition(".")[0] in source.pictures
    return not source.has_pictures(root) if brings_pictures else bool(source.missing(root))


def _get(
    file: File, root: Path, say: Callable[[str], None], bar: Bar, patience: Patience | None, free: Callable[[Path], int]
) -> None:
    remote, target = _remote(file), root / file.path
    if is_on_hub(file.url or ""):
        came = fetch_from_hub(remote, root, free=free)
    else:
        with bar(target.name) as tell:
            came = fetch(remote, root, patience=patience, free=free, progress=tell)
    say(f"{target}: {'fetched' if came else 'there already'}")
    if is_archive(target):
        with bar(f"unpacking {target.name}") as tell:
            count = unpack(target, target.parent, free=free, progress=tell)
        say(f"{target}: {count:,} files unpacked; it may be removed")


def _remote(file: File) -> Remote:
    return Remote(file.path, file.url, file.bytes, file.sha256)


def _missing_bytes(file: File, root: Path) -> int:
    """How many bytes are still to come, as far as the size is known; what has come of a part counts as there."""
    target = root / file.path
    part = target.with_name(f"{target.name}.part")
    there = next((path.stat().st_size for path in (target, part) if path.is_file()), 0)
    return max((file.bytes or 0) - there, 0)


def _size(file: File) -> str:
    return "of unknown size" if file.bytes is None else f"{file.bytes:,} bytes"
