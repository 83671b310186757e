"""A search for the targets of many pictures that can be killed at any moment, and goes on where it was.

The pictures are cut into parts of a fixed size in a fixed order. Each part that is done is one file below `parts` in
the targets folder, there whole or not at all; when all are there the shards are made of them, in order, and `parts` is
removed. What the parts belong to is noted beside them: they are never mixed with those of other settings, weights or
samples. So the bytes at the end are the same however often a run was stopped, and whoever found the parts.

    out/parts/about.json     {"search": {"candidates": 16, ...}, "segmenter": "tiny", "samples": "5f3a...", ...}
    out/parts/00012.json     [{"sample_id": "refcoco-unc-5342-15215", "index": 0, "prompts": [...], "ceiling": 0.91}]
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sam4mllm import __version__
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import alone, write_text
from sam4mllm.runtime.parallel import Executor
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import weights
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import build_segmenter
from sam4mllm.targets.record import INDEX, Target, about_of, json_of, read_targets, target_of, write_rows
from sam4mllm.targets.search import Search, make_targets, report

PARTS = "parts"
DONE = "[0-9]*.json"
"""What the files of parts that are done are called."""
PICTURES = 16
"""In a part: what a killed worker loses at most, and has to be done for a file to be worth its while."""


@dataclass(frozen=True, slots=True)
class Searching:
    """A search, as a worker is told of it.

    Attributes:
        build: makes the segmenter; called with the one argument ``device``.
        search: what is tried, and what is kept.
    """

    build: Callable[..., Segmenter]
    search: Search

    def begin(self, device: str | None) -> Callable[[SampleSet], list[Target]]:
        """What finds the targets of a part, with a segmenter of its own."""
        segmenter = self.build(device=device)
        return lambda part: list(make_targets(part, segmenter, self.search))


def find_targets(
    samples: SampleSet,
    executor: Executor,
    work: Searching,
    out: Path,
    about: Mapping[str, Any],
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Make ``out`` the targets folder of some samples, going on from what a stopped run left; returns the report.

    Args:
        samples: with pictures; those without masks have no targets.
        executor: runs the parts.
        work: how.
        out: made if need be; where it holds these targets already, nothing is done.
        about: what the targets are made of, as JSON, beside the samples; kept in the index.
        progress: told of how many masks are done, at the start and after each part.

    Raises:
        UserError: for a folder that holds other targets, finished or begun, or is being written; for pictures that are
            missing, before anything is drawn; as the executor does.
    """
    about = json.loads(json.dumps({**about, "samples": fingerprint(samples)}))
    parts, empty = parted(samples), sum(not rle.area for sample in samples for rle in sample.masks)
    with _alone(out / PARTS):
        if (out / INDEX).is_file():
            _check_same(about_of(out), about, out, out / INDEX)
            shutil.rmtree(out / PARTS)
            return report(read_targets(out).values(), empty)
        _begin(out / PARTS, about)
        left = {number: part for number, part in parts.items() if not _file(out, number).is_file()}
        _check_there(left.values())
        progress(_masks(part for number, part in parts.items() if number not in left))
        for number, found in executor.run(work, left):
            write_text(_file(out, number), json.dumps([json_of(target) for target in found]))
            progress(_masks([parts[number]]))
        for stale in out.glob(".targets*.part.*"):  # of a run that was killed while it wrote the shards
            stale.unlink()
        write_rows((row for number in parts for row in _read(_file(out, number))), out, about)
        said = report((target_of(row) for number in parts for row in _read(_file(out, number))), empty)
        shutil.rmtree(out / PARTS)
    return said


def search_targets(
    samples: SampleSet,
    out: Path,
    search: Search,
    segmenter: str,
    executor: Executor,
    progress: Progress,
    single_mask: bool = False,
    dtype: str = "auto",
) -> str:
    """Find the targets of some samples by a segmenter's name; returns the report.

    Args:
        samples: with pictures.
        out: the targets folder, made if need be.
        search: what is tried, and what is kept.
        segmenter: as `build_segmenter` takes it.
        executor: runs the parts.
        progress: makes a progress bar of so many steps.
        single_mask: the segmenter's one mask, and not its best of three.
        dtype: of its weights, as torch names it.

    Raises:
        UserError: as `find_targets` and `build_segmenter` do.
    """
    made = {"segmenter": segmenter, "single_mask": single_mask, "dtype": dtype}
    about = {"search": asdict(search), **made, "weights": weights(segmenter, "sam"), "sam4mllm": __version__}
    work = Searching(partial(build_segmenter, segmenter, dtype=dtype, single_mask=single_mask), search)
    with progress(sum(len(sample.masks) for sample in samples), "searched") as advance:
        return find_targets(samples, executor, work, out, about, advance)


def parted(samples: SampleSet) -> dict[int, SampleSet]:
    """The samples that have masks, by the number of their part; all about one picture are in one part."""
    pictures = samples.with_masks().by_picture()
    return {
        number: SampleSet(
            tuple(sample for about in pictures[start : start + PICTURES] for sample in about), samples.images
        )
        for number, start in enumerate(range(0, len(pictures), PICTURES))
    }


def fingerprint(samples: SampleSet) -> str:
    """Of all that targets are made of but the pixels: ids, pictures' names, masks and their order."""
    seen = hashlib.sha256()
    for sample in samples:
        for text in (sample.id, sample.image, *map(str, (sample.height, sample.width, len(sample.masks)))):
            seen.update(f"{len(text)} {text}".encode())
        for rle in sample.masks:
            seen.update(rle.counts.encode() + b" ")
    return seen.hexdigest()


def _begin(folder: Path, about: Mapping[str, Any]) -> None:
    """Note what the parts belong to, or refuse where some are there that belong to something else.

    Parts without a note are what is left of a clean-up that was killed: nobody knows what they belong to.
    """
    noted = folder / "about.json"
    if noted.is_file() and _any_done(folder):
        before = _read(noted)
        _check_same(before if isinstance(before, dict) else {}, about, folder.parent, folder)
        return
    for part in folder.glob(DONE):
        part.unlink()
    write_text(noted, json.dumps(about, indent=2) + "\n")


def _check_same(before: Mapping[str, Any], about: Mapping[str, Any], out: Path, kept: Path) -> None:
    """Make sure that targets are of these settings; ``kept`` is what to remove where they are not wanted any more.

    Raises:
        UserError: saying what differs.
    """
    if before != about:
        differ = ", ".join(key for key in {**before, **about} if before.get(key) != about.get(key))
        raise UserError(
            f"{out} holds targets of other settings ({differ}): give those, another folder, or remove {kept}"
        )


def _check_there(parts: Iterable[SampleSet]) -> None:
    """Make sure that all pictures that will be read are there: hours of drawing are not to end at one that is not.

    Raises:
        UserError: saying how many are not, and which is the first.
    """
    pictures = list(dict.fromkeys(part.path(sample) for part in parts for sample in part))
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(pictures):,} pictures are missing, the first is {missing[0]}: put them there, "
            f"or name where they are with --images"
        )


def _file(out: Path, number: int) -> Path:
    return out / PARTS / f"{number:05}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: remove it, and run this again ({error})") from error


def _masks(parts: Sequence[SampleSet] | Iterator[SampleSet]) -> int:
    return sum(len(sample.masks) for part in parts for sample in part)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The block with the folder to itself, of which nothing is left where no part was done."""
    new = not folder.parent.exists()
    with alone(folder):
        try:
            yield
        finally:
            if folder.exists() and not _any_done(folder):
                shutil.rmtree(folder)
                if new and not any(folder.parent.iterdir()):
                    folder.parent.rmdir()


def _any_done(folder: Path) -> bool:
    return any(folder.glob(DONE))
