"""The files of each data set: paths, URLs, sizes and checksums.

    Source("refcoco", "…", page="https://github.com/lichengunc/refer",
           needs=(("refcoco/refs(unc).p",), ("refcoco/instances.json",)), image_folders=("images/train2014", …),
           files=(File("refcoco.zip", "refs and instances", url="https://…/refcoco.zip"),
                  File("images/train2014.zip", "COCO's images of 2014", url="http://…", bytes=13510573713)))

An archive is unpacked into its own folder. URLs were copied from the pages of the data sets or of LISA; none was tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sam4mllm.data_prep.unpack import is_unpacked
from sam4mllm.errors import UserError


@dataclass(frozen=True, slots=True)
class File:
    """One file to download, or a folder to get by hand.

    Attributes:
        path: path relative to the root, with forward slashes. A .zip is unpacked into its own folder.
        description: a few words.
        url: None if the file must be downloaded by hand from the page.
        bytes: size; None if unknown.
        sha256: checksum; None if unknown.
    """

    path: str
    description: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the file has to be unpacked."""
        return self.path.lower().endswith(".zip")

    def mismatch(self, path: Path) -> str:
        """How a file on the disk differs from the known size and SHA-256; an empty string if it does not."""
        if self.bytes not in (None, size := path.stat().st_size):
            return f"{size:,} bytes instead of {self.bytes:,}"
        if self.sha256 is None:
            return ""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return "" if digest == self.sha256 else f"SHA-256 {digest} instead of {self.sha256}"


@dataclass(frozen=True, slots=True)
class Source:
    """One data set.

    Attributes:
        name: name on the command line, as in `sam4mllm data NAME`.
        description: a few words.
        page: page of its authors.
        needs: groups of paths relative to the root. A conversion needs one path of each group; ``*`` matches anything.
        image_folders: possible image folders; one is enough, and ``*`` matches anything. Without one, all images count
            as missing.
        files: files to download; empty for your own data.
    """

    name: str
    description: str
    page: str
    needs: tuple[tuple[str, ...], ...]
    image_folders: tuple[str, ...]
    files: tuple[File, ...] = ()

    def missing_needs(self, root: Path) -> list[str]:
        """The first path of each group in `needs` that has no existing path below ``root``."""
        return [paths[0] for paths in self.needs if not any(_exists(root, path) for path in paths)]

    def has_images(self, root: Path) -> bool:
        """Whether one of the image folders exists."""
        return any(path.is_dir() for folder in self.image_folders for path in root.glob(folder))

    def missing_files(self, root: Path) -> list[File]:
        """The files that are not downloaded or not unpacked yet, including those without a URL.

        If an archive was removed, it is not missing while its contents are there. If it is still there, it must have
        been unpacked completely.
        """
        return [file for file in self.files if self._is_missing(file, root)]

    def _is_missing(self, file: File, root: Path) -> bool:
        target = root / file.path
        if not file.is_archive:
            alternatives = {path for paths in self.needs if file.path in paths for path in paths} - {file.path}
            is_present = target.is_dir() or (target.is_file() and not file.mismatch(target))
            return not is_present and not any(_exists(root, path) for path in alternatives)
        if target.exists() or is_unpacked(target):
            return not is_unpacked(target)
        holds_images = file.path.removesuffix(".zip") in self.image_folders
        return not self.has_images(root) if holds_images else bool(self.missing_needs(root))


def _exists(root: Path, path: str) -> bool:
    """Whether a path, or a path that matches its ``*``, exists below the root."""
    return any(root.glob(path)) if "*" in path else (root / path).exists()


TRAIN2014 = File(
    "images/train2014.zip",
    "COCO's training images of 2014",
    url="http://images.cocodataset.org/zips/train2014.zip",
    bytes=13510573713,
)
IMAGES_2014 = ("images/train2014", "images/mscoco/images/train2014")
REASONSEG = (
    "reason_seg/ReasonSeg",
    "ReasonSeg",
    "reasonseg",
    "",
)  # relative to the root; the first that exists is used
LLAVA = tuple(f"{folder}llava_instruct_150k.json" for folder in ("llava_instruct/", "llava_dataset/", ""))
LLAVA_IMAGES = tuple(
    f"{folder}{year}"
    for folder in ("", "images/", "images/mscoco/images/", "coco/")
    for year in ("train2017", "train2014")
)
_ARCHIVE = "https://web.archive.org/web"
_UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data"
_LLAVA_PAGE = "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K"


def _refer(name: str, title: str, split_by: str, archived: str) -> Source:
    """A data set in REFER's layout. Its authors' URL no longer works; the Internet Archive has a copy."""
    return Source(
        name,
        title,
        page="https://github.com/lichengunc/refer",
        needs=((f"{name}/refs({split_by}).p",), (f"{name}/instances.json",)),
        image_folders=IMAGES_2014,
        files=(File(f"{name}.zip", "refs and instances", url=f"{_ARCHIVE}/{archived}/{_UNC}/{name}.zip"), TRAIN2014),
    )


_ALL = (
    _refer("refcoco", "RefCOCO", "unc", "20220413011718"),
    _refer("refcoco+", "RefCOCO+", "unc", "20220413011656"),
    _refer("refcocog", "RefCOCOg", "umd", "20220413012904"),
    Source(
        "grefcoco",
        "gRefCOCO, the release of 2023",
        page="https://github.com/henghuiding/gRefCOCO",
        needs=(
            ("grefcoco/grefs(unc).json", "grefcoco/grefs(unc).p", "grefs(unc).json", "grefs(unc).p"),
            ("grefcoco/instances.json", "instances.json"),
        ),
        image_folders=IMAGES_2014,
        files=(File("grefcoco/grefs(unc).json", "refs"), File("grefcoco/instances.json", "COCO's objects"), TRAIN2014),
    ),
    Source(
        "reasonseg",
        "ReasonSeg",
        page="https://github.com/dvlab-research/LISA#dataset",
        needs=(tuple(f"{home}/{part}/*.json".lstrip("/") for part in ("val", "train", "test") for home in REASONSEG),),
        image_folders=("reason_seg/ReasonSeg/val", "ReasonSeg/val", "reasonseg/val"),
        files=(
            File("reason_seg/ReasonSeg/train", "a folder of 239 images with annotations"),
            File("reason_seg/ReasonSeg/val", "a folder of 200 images with annotations"),
            File("reason_seg/ReasonSeg/test", "a folder of 779 images with annotations"),
            File("reason_seg/ReasonSeg/explanatory/train.json", "explanations of training answers"),
        ),
    ),
    Source(
        "llava_instruct",
        "LLaVA-Instruct-150K, the VQA part of the mixture",
        page=_LLAVA_PAGE,
        needs=(LLAVA, ("images/train2014", *LLAVA_IMAGES)),  # the downloadable path first
        image_folders=LLAVA_IMAGES,
        files=(File(LLAVA[0], "conversations", url=f"{_LLAVA_PAGE}/resolve/main/llava_instruct_150k.json"), TRAIN2014),
    ),
    Source(
        "coco",
        "your own data, as COCO's instances JSON",
        page="`sam4mllm data coco --help`",
        needs=(("coco/instances.json", "coco/instances_*.json", "coco/annotations/instances_*.json"),),
        image_folders=("coco/images", "coco/train*", "coco/val*", "coco/test*"),
    ),
    Source(
        "labelme",
        "your own data, as LabelMe's files",
        page="`sam4mllm data labelme --help`",
        needs=(("labelme/**/*.json",),),
        image_folders=("labelme",),
    ),
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in _ALL})


def find_source(name: str) -> Source:
    """The data set of a name.

    Raises:
        UserError: if the name is unknown, or the data set has no files to download.
    """
    if name not in SOURCES:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(SOURCES)}")
    if not SOURCES[name].files:
        raise UserError(f"{name} is {SOURCES[name].description}: nothing to download; see {SOURCES[name].page}")
    return SOURCES[name]
