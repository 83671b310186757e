"""Lists which data sets are present or missing, and converts one of them or all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial as bind
from pathlib import Path
from types import MappingProxyType

from sam4mllm.data_prep.convert import convert
from sam4mllm.data_prep.download import Bar, download
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.readers import coco, grefcoco, labelme, llava_instruct, reasonseg, refcoco
from sam4mllm.data_prep.sources import SOURCES
from sam4mllm.errors import UserError

READERS: Mapping[str, Callable[..., RawDataset]] = MappingProxyType(
    {
        **{name: bind(refcoco.prepare, dataset=name) for name in refcoco.SPLIT_BY},
        "grefcoco": grefcoco.prepare,
        "reasonseg": reasonseg.prepare,
        "llava_instruct": llava_instruct.prepare,
        "coco": coco.prepare,
        "labelme": labelme.prepare,
    }
)


def format_overview(root: Path) -> str:
    """Lists each data set as found or missing; for missing files, also their URLs and paths."""
    lines = []
    for source in SOURCES.values():
        missing = source.missing_needs(root)
        lines.append(f"{source.name} ({source.description}): {'missing' if missing else 'found'}")
        if not missing and not source.has_images(root):
            lines.append(f"    no images in {source.image_folders[0]}: all images count as missing")
        if missing:
            lines.append(f"    expected in {root}: {', '.join(missing)}")
            for file in source.missing_files(root):
                lines.append(f"    {file.path}, {file.description}: {file.url or 'see the page'}")
            lines.append(f"    page: {source.page}")
    return "\n".join(lines)


def convert_set(
    name: str,
    root: Path,
    out: Path,
    print_line: Callable[[str], None],
    bar: Bar | None = None,
    partial: bool = False,
    keep_leaks: bool = False,
    **options: object,
) -> None:
    """Reads one data set and writes its splits. After a failed download, the files that are present are converted.

    Args:
        name: a key of `READERS`.
        root: folder of the raw files.
        out: folder of the converted data set.
        print_line: prints a line.
        bar: opens a progress bar for a download; None downloads nothing.
        partial: whether counts may differ from the official ones.
        keep_leaks: whether training splits keep images that any data set evaluates on.
        options: further arguments of the reader.

    Raises:
        UserError: if a download failed, or else if the conversion failed.
    """
    download_error = None
    if bar:
        try:
            if by_hand := download(SOURCES[name], root, print_line=print_line, bar=bar):
                print_line(by_hand)
        except UserError as error:
            download_error = error
    try:
        if not bar and not root.is_dir():
            raise UserError(f"no such folder: {root}; --root is the folder of the raw files")
        convert(READERS[name](root, **options), root, out, partial, keep_leaks, print_line)
    except UserError as error:
        raise download_error or error from None
    if download_error:
        raise download_error


def convert_all(
    root: Path, out: Path, print_line: Callable[[str], None], bar: Bar | None, partial: bool, keep_leaks: bool
) -> list[str]:
    """Converts all data sets that are present or can be downloaded; returns one line per data set that failed.

    Args:
        root: folder of the raw files of all data sets.
        out: folder that gets one folder per data set.
        print_line: prints a line.
        bar: see `convert_set`.
        partial: see `convert_set`.
        keep_leaks: see `convert_set`.
    """
    if not root.is_dir():
        print_line(f"no such folder yet: {root}")
    print_line(format_overview(root))
    errors = []
    for name, source in SOURCES.items():
        if not source.missing_needs(root) or (bar and source.files):
            print_line(f"\n{name} -> {out / name}")
            try:
                convert_set(name, root, out / name, print_line, bar, partial, keep_leaks)
            except UserError as error:
                errors.append(f"{name}: {error}")
    return errors
