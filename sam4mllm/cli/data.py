"""`sam4mllm data`: converts raw annotations to samples; one command per data set, and `download` and `preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam4mllm.cli.terminal import finish
from sam4mllm.runtime.progress import byte_progress, progress

DATA, DOWNLOADS = Path("data"), Path("downloads")

Root = Annotated[Path, typer.Option("--root", help="Folder of the raw files.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the splits and the report. Default: data/NAME.", show_default=False),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of the images, if they are not below --root.", show_default=False),
]
Partial = Annotated[bool, typer.Option("--partial", help="Accept counts that differ from the official ones.")]
KeepLeaks = Annotated[
    bool, typer.Option("--keep-leaks", help="Keep training images that are also in a validation or test split.")
]
Download = Annotated[bool, typer.Option("--download", help="First download missing files that have a known URL.")]
SplitBy = Annotated[
    str | None,
    typer.Option(
        "--split-by",
        help="Split of the data set: unc, umd or google. Default: the one of the papers.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option("--split", help="Split of images that are not in a folder named after a split.")]

data = typer.Typer(no_args_is_help=True, help="Convert data sets to samples.", subcommand_metavar="NAME [ARGS]...")


@data.command("all")
def convert_found(
    root: Root = DOWNLOADS,
    out: Annotated[Path, typer.Option("--out", help="Folder that gets a folder per data set.")] = DATA,
    partial: Partial = False,
    keep_leaks: KeepLeaks = False,
    download: Download = False,
) -> None:
    """List the files in --root and the missing ones, and convert every complete data set."""
    from sam4mllm.data_prep.datasets import convert_all

    errors = convert_all(root, out, typer.echo, byte_progress if download else None, partial, keep_leaks)
    for error in errors:
        typer.echo(f"error: {error}", err=True)
    if errors:
        raise typer.Exit(2)
    if out.is_dir():
        finish(f"the converted data sets are in {out}")


def _convert(
    name: str, root: Path, out: Path | None, partial: bool, keep_leaks: bool, download: bool, **options: object
) -> None:
    from sam4mllm.data_prep.datasets import convert_set

    bar = byte_progress if download else None
    chosen = {option: value for option, value in options.items() if value is not None}
    folder = out or DATA / name
    convert_set(name, root, folder, typer.echo, bar, partial, keep_leaks, **chosen)
    splits = sorted(index.parent for index in folder.glob("*/dataset.json"))
    if splits:
        finish(f"samples of {', '.join(split.name for split in splits)} are in {folder}", "data", "preview", splits[0])
    else:
        finish(f"written to {folder}")


def _add_refer_command(name: str, title: str) -> None:
    def command(
        root: Root = DOWNLOADS,
        out: Out = None,
        split_by: SplitBy = None,
        images: Images = None,
        partial: Partial = False,
        keep_leaks: KeepLeaks = False,
        download: Download = False,
    ) -> None:
        _convert(name, root, out, partial, keep_leaks, download, split_by=split_by, images=images)

    data.command(name, help=f"{title} in REFER's layout: one folder per split.")(command)


for _name, _title in (("refcoco", "RefCOCO"), ("refcoco+", "RefCOCO+"), ("refcocog", "RefCOCOg")):
    _add_refer_command(_name, _title)


@data.command("grefcoco")
def grefcoco(
    root: Root = DOWNLOADS,
    out: Out = None,
    images: Images = None,
    partial: Partial = False,
    keep_leaks: KeepLeaks = False,
    download: Download = False,
) -> None:
    """gRefCOCO: expressions with one target, several, or none."""
    _convert("grefcoco", root, out, partial, keep_leaks, download, images=images)


@data.command("reasonseg")
def reasonseg(
    root: Root = DOWNLOADS,
    out: Out = None,
    partial: Partial = False,
    keep_leaks: KeepLeaks = False,
    download: Download = False,
) -> None:
    """ReasonSeg: train, val and test, and its explanations as conversations."""
    _convert("reasonseg", root, out, partial, keep_leaks, download)


@data.command("llava_instruct")
def llava_instruct(
    root: Root = DOWNLOADS,
    out: Out = None,
    images: Images = None,
    keep_leaks: KeepLeaks = False,
    download: Download = False,
) -> None:
    """LLaVA-Instruct: conversations about images, without masks."""
    _convert("llava_instruct", root, out, False, keep_leaks, download, images=images)


@data.command("coco")
def coco(
    root: Root = DOWNLOADS,
    out: Out = None,
    split: Split = "train",
    images: Images = None,
    keep_leaks: KeepLeaks = False,
) -> None:
    """Your own data as COCO instances JSON: each object's phrase, or its category's name.

    --root contains instances.json or instances_SPLIT.json, and a folder images; all may be in a folder coco.
    """
    _convert("coco", root, out, False, keep_leaks, False, split=split, images=images)


@data.command("labelme")
def labelme(root: Root = DOWNLOADS, out: Out = None, split: Split = "train", keep_leaks: KeepLeaks = False) -> None:
    """Your own data as LabelMe JSON files: each label is a phrase.

    --root contains the JSON files, also in a folder labelme; folders train, val and test are splits.
    """
    _convert("labelme", root, out, False, keep_leaks, False, split=split)


@data.command("download")
def download_files(
    name: Annotated[str, typer.Argument(help="Name of the data set.", show_default=False)],
    root: Root = DOWNLOADS,
    yes: Annotated[bool, typer.Option("--yes", help="Download; without it, list what would be downloaded.")] = False,
) -> None:
    """Download the raw files of a data set, check and unpack them; an interrupted download resumes."""
    from sam4mllm.data_prep import download
    from sam4mllm.data_prep.sources import find_source
    from sam4mllm.errors import UserError

    source = find_source(name)
    if not yes:
        typer.echo(download.format_plan(source, root))
        missing_files = source.missing_files(root)
        if not missing_files:
            finish("", "data", name, "--root", root)
        elif any(file.url for file in missing_files):
            finish("", "data", "download", name, "--root", root, "--yes")
    elif missing := download.download(source, root, print_line=typer.echo, bar=byte_progress):
        raise UserError(missing)
    else:
        finish(f"{name} is in {root}", "data", name, "--root", root)


@data.command("preview")
def preview(
    split: Annotated[Path, typer.Argument(help="Folder of samples.", show_default=False)],
    targets: Annotated[Path | None, typer.Option("--targets", help="Folder of the samples' targets.")] = None,
    segmenter: Annotated[
        str, typer.Option("--segmenter", help="Segmenter that predicts masks from the targets, named as for `targets`.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("sheet.html"),
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of cards.")] = 60,
    images: Annotated[Path | None, typer.Option("--images", help="Image root, if the images were moved.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Device of the segmenter, as torch names it.")] = None,
) -> None:
    """Write one self-contained HTML page: images, phrases, masks, prompts, redrawn masks, IoUs and histograms."""
    from sam4mllm.data_prep.preview import write_preview

    typer.echo(write_preview(split, out, progress, targets, segmenter, limit, images, device))
