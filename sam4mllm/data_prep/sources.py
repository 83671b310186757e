"""Where each set comes from and what of it goes where: a table of addresses, sizes and checksums, as far as known.

    Source("refcoco", "…", page="https://github.com/lichengunc/refer",
           needs=(("refcoco/refs(unc).p",), ("refcoco/instances.json",)), pictures=("images/train2014", …),
           files=(File("refcoco.zip", "refs and instances", url="https://…/refcoco.zip"),
                  File("images/train2014.zip", "COCO's pictures of 2014", url="http://…", bytes=13510573713)))

An archive is unpacked in the folder that it lies in. Addresses are as the sets' own pages or LISA's page gave them;
none was asked while this was written. Knows nothing of what the files hold.
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
    """One file to get, or a folder of them that only a page offers.

    Attributes:
        path: where it goes, below the root, with forward slashes; a .zip is unpacked beside itself.
        what: it is, in a few words.
        url: its address; None where a page has to be visited.
        bytes: its size, where known.
        sha256: its checksum, where known.
    """

    path: str
    what: str
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
    """One set.

    Attributes:
        name: as `sam4mllm data NAME` has it.
        what: it is, in a few words.
        page: of the project that made it.
        needs: what a conversion cannot do without, below the root: of each group one path is enough.
        pictures: folders of pictures, one of which is enough, ``*`` standing for anything; without any they are counted
            as missing.
        files: what to get; none for your own data.
    """

    name: str
    what: str
    page: str
    needs: tuple[tuple[str, ...], ...]
    pictures: tuple[str, ...]
    files: tuple[File, ...] = ()

    def missing(self, root: Path) -> list[str]:
        """The first choice of each need that nothing below ``root`` meets."""
        return [ways[0] for ways in self.needs if not any(_is_there(root, way) for way in ways)]

    def has_instead(self, root: Path, path: str) -> bool:
        """Whether something else is there that meets the same need as a path."""
        return any(_is_there(root, way) for ways in self.needs if path in ways for way in ways if way != path)

    def has_pictures(self, root: Path) -> bool:
        """Whether a folder of pictures is there."""
        return any(path.is_dir() for folder in self.pictures for path in root.glob(folder))

    def missing_files(self, root: Path) -> list[File]:
        """The files that are not downloaded or not unpacked yet, including those without a URL.

        An archive is not missing if its content is there, unless the archive is there too and was not unpacked
        completely.
        """
        return [file for file in self.files if self._is_missing(file, root)]

    def _is_missing(self, file: File, root: Path) -> bool:
        target = root / file.path
        if not file.is_archive:
            is_there = target.is_dir() or (target.is_file() and not file.mismatch(target))
            return not is_there and not self.has_instead(root, file.path)
        if target.exists() or is_unpacked(target):
            return not is_unpacked(target)
        has_images = file.path.removesuffix(".zip") in self.pictures
        return not self.has_pictures(root) if has_images else bool(self.missing(root))


def _is_there(root: Path, way: str) -> bool:
    """Whether a path, or one that a ``*`` stands for, is there."""
    return any(root.glob(way)) if "*" in way else (root / way).exists()


TRAIN2014 = File(
    "images/train2014.zip",
    "COCO's training pictures of 2014",
    url="http://images.cocodataset.org/zips/train2014.zip",
    bytes=13510573713,
)
PICTURES = ("images/train2014", "images/mscoco/images/train2014")
REASONSEG = ("reason_seg/ReasonSeg", "ReasonSeg", "reasonseg", "")  # below its root, the first that is there
LLAVA = tuple(f"{home}llava_instruct_150k.json" for home in ("llava_instruct/", "llava_dataset/", ""))
LLAVA_PICTURES = tuple(
    f"{home}{year}" for home in ("", "images/", "images/mscoco/images/", "coco/") for year in ("train2017", "train2014")
)
_ARCHIVE = "https://web.archive.org/web"
_UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data"


def _refer(name: str, what: str, split_by: str, archived: str) -> Source:
    """A set in REFER's layout; the address of its makers is gone, the Internet Archive has a copy."""
    return Source(
        name,
        what,
        page="https://github.com/lichengunc/refer",
        needs=((f"{name}/refs({split_by}).p",), (f"{name}/instances.json",)),
        pictures=PICTURES,
        files=(File(f"{name}.zip", "refs and instances", url=f"{_ARCHIVE}/{archived}/{_UNC}/{name}.zip"), TRAIN2014),
    )


_ALL = (
    _refer("refcoco", "RefCOCO", "unc", "20220413011718"),
    _refer("refcoco+", "RefCOCO+", "unc", "20220413011656"),
    _refer("refcocog", "RefCOCOg", "umd", "20220413012904"),
    Source(
        "grefcoco",
        "gRefCOCO, as released again in 2023",
        page="https://github.com/henghuiding/gRefCOCO",
        needs=(
            ("grefcoco/grefs(unc).json", "grefcoco/grefs(unc).p", "grefs(unc).json", "grefs(unc).p"),
            ("grefcoco/instances.json", "instances.json"),
        ),
        pictures=PICTURES,
        files=(
            File("grefcoco/grefs(unc).json", "the refs"),
            File("grefcoco/instances.json", "COCO's objects"),
            TRAIN2014,
        ),
    ),
    Source(
        "reasonseg",
        "ReasonSeg",
        page="https://github.com/dvlab-research/LISA#dataset",
        needs=(
            tuple(f"{home}/{split}/*.json".lstrip("/") for split in ("val", "train", "test") for home in REASONSEG),
        ),
        pictures=("reason_seg/ReasonSeg/val", "ReasonSeg/val", "reasonseg/val"),
        files=(
            File("reason_seg/ReasonSeg/train", "a folder of 239 pictures with their annotations"),
            File("reason_seg/ReasonSeg/val", "a folder of 200 pictures with their annotations"),
            File("reason_seg/ReasonSeg/test", "a folder of 779 pictures with their annotations"),
            File("reason_seg/ReasonSeg/explanatory/train.json", "explanations of training answers"),
        ),
    ),
    Source(
        "llava_instruct",
        "LLaVA-Instruct-150K, the VQA part of the mixture",
        page="https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K",
        needs=(LLAVA, (TRAIN2014.path.removesuffix(".zip"), *LLAVA_PICTURES)),  # first what can be fetched
        pictures=LLAVA_PICTURES,
        files=(
            File(
                "llava_instruct/llava_instruct_150k.json",
                "the conversations",
                url="https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_instruct_150k.json",
            ),
            TRAIN2014,
        ),
    ),
    Source(
        "coco",
        "your own data, as COCO's instances JSON",
        page="`sam4mllm data coco --help`",
        needs=(("coco/instances.json", "coco/instances_*.json", "coco/annotations/instances_*.json"),),
        pictures=("coco/images", "coco/train*", "coco/val*", "coco/test*"),
    ),
    Source(
        "labelme",
        "your own data, as LabelMe's files",
        "`sam4mllm data labelme --help`",
        (("labelme/**/*.json",),),
        ("labelme",),
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
        raise UserError(f"{name} is {SOURCES[name].what}: nothing to download; see {SOURCES[name].page}")
    return SOURCES[name]
