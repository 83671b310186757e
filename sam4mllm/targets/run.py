"""A resumable search for the targets of many images.

Images are split into parts of a fixed size in a fixed order. Each finished part is one file in `parts` in the targets
folder, written atomically. When all parts are finished, they are merged into shards in order, and `parts` is removed.
The settings are stored with the parts: parts with other settings, weights or samples are never mixed. So the final
bytes do not depend on how often a run was stopped, or on which worker finished a part.

    out/parts/about.json     {"search": {"candidates": 16, ...}, "segmenter": "tiny", "samples": "5f3a...", ...}
    out/parts/00012.json     [{"sample_id": "refcoco-unc-5342-15215", "index": 0, "prompts": [...], "ceiling": 0.91}]
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import lock_folder, write_text
from sam4mllm.runtime.parallel import Executor
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import check_same, hash_weights, versions
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.targets.record import INDEX, Target, read_about, read_targets, target_to_json, write_target_rows
from sam4mllm.targets.search import Search, make_targets, report

PARTS = "parts"
FINISHED_PARTS = "[0-9]*.json"
"""The file names of finished parts."""
IMAGES_PER_PART = 16
"""Images per part: at most this many are lost if a worker is killed, and each file must be worth its overhead."""


@dataclass(frozen=True, slots=True)
class SearchWork:
    """The work of a worker: builds a segmenter and searches parts.

    Attributes:
        build: builds the segmenter; called with the one argument ``device``.
        search: the settings of the search.
    """

    build: Callable[..., Segmenter]
    search: Search

    def begin(self, device: str | None) -> Callable[[SampleSet], list[Target]]:
        """A function that finds the targets of a part, with its own segmenter."""
        segmenter = self.build(device=device)
        return lambda part: list(make_targets(part, segmenter, self.search))


def find_targets(
    samples: SampleSet,
    executor: Executor,
    work: SearchWork,
    out: Path,
    about: Mapping[str, Any],
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Make ``out`` the targets folder of the samples and return the report. A stopped run is resumed.

    Args:
        samples: samples with images; those without masks have no targets.
        executor: runs the parts.
        work: builds the segmenter and searches parts.
        out: created if necessary. If it holds these targets already, nothing is done.
        about: the settings of the targets as JSON, apart from the samples; stored in the index.
        progress: called with the number of finished masks, at the start and after each part.

    Raises:
        UserError: if the folder holds other targets, finished or not, or is being written; if images are missing,
            before the search starts; as the executor does.
    """
    about = json.loads(json.dumps({**about, "samples": fingerprint(samples)}))
    with _locked_parts(out / PARTS):
        if (out / INDEX).is_file():
            check_same(read_about(out), about, str(out), _remedy(out / INDEX))
        else:
            _store_settings(out / PARTS, about)
            _search_parts(split_into_parts(samples), executor, work, out, about, progress)
        shutil.rmtree(out / PARTS)
        empty = sum(not rle.area for sample in samples for rle in sample.masks)
        return report(read_targets(out).values(), empty)


def _search_parts(
    parts: Mapping[int, SampleSet],
    executor: Executor,
    work: SearchWork,
    out: Path,
    about: Mapping[str, Any],
    progress: Callable[[int], None],
) -> None:
    """Search the parts that are not finished, and merge all of them into the targets of ``out``."""
    remaining = {number: part for number, part in parts.items() if not _part_file(out, number).is_file()}
    _check_images(remaining.values())
    progress(_count_masks(part for number, part in parts.items() if number not in remaining))
    for number, targets in executor.run(work, remaining):
        write_text(_part_file(out, number), json.dumps([target_to_json(target) for target in targets]))
        progress(_count_masks([parts[number]]))
    for stale in out.glob(".targets*.part.*"):  # left by a run that was killed while writing shards
        stale.unlink()
    write_target_rows((row for number in parts for row in _read_json(_part_file(out, number))), out, about)


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
    """Find the targets of the samples with a named segmenter and return the report.

    Args:
        samples: samples with images.
        out: the targets folder, created if necessary.
        search: the settings of the search.
        segmenter: a name as for `SegmenterSpec`.
        executor: runs the parts.
        progress: creates a progress bar with a given number of steps.
        single_mask: whether the segmenter predicts one mask instead of the best of three.
        dtype: of the segmenter's weights, as torch names it.

    Raises:
        UserError: as `find_targets` and `SegmenterSpec` do.
    """
    segmenter_settings = {"segmenter": segmenter, "single_mask": single_mask, "dtype": dtype}
    about = {
        "search": asdict(search),
        **segmenter_settings,
        "weights": hash_weights(segmenter, "sam"),
        **versions(),
    }
    spec = SegmenterSpec(segmenter, dtype=dtype, single_mask=single_mask)
    work = SearchWork(partial(_load, spec), search)
    with progress(sum(len(sample.masks) for sample in samples), "searched") as advance:
        return find_targets(samples, executor, work, out, about, advance)


def _load(spec: SegmenterSpec, device: str | None) -> Segmenter:
    return replace(spec, device=device).load()


def split_into_parts(samples: SampleSet) -> dict[int, SampleSet]:
    """The samples with masks, by part number. All samples of one image are in one part."""
    images = [image_samples.samples for image_samples in samples.with_masks().by_image()]
    parts = (images[start : start + IMAGES_PER_PART] for start in range(0, len(images), IMAGES_PER_PART))
    return {number: SampleSet(tuple(chain.from_iterable(part)), samples.images) for number, part in enumerate(parts)}


def fingerprint(samples: SampleSet) -> str:
    """A hash of the samples without pixels: ids, names and sizes of images, masks and their order."""
    digest = hashlib.sha256()
    for sample in samples:
        for text in (sample.id, sample.image, *map(str, (sample.height, sample.width, len(sample.masks)))):
            digest.update(f"{len(text)} {text}".encode())
        for rle in sample.masks:
            digest.update(rle.counts.encode() + b" ")
    return digest.hexdigest()


def _store_settings(folder: Path, about: Mapping[str, Any]) -> None:
    """Store the settings next to the parts, or refuse if existing parts have other settings.

    Parts without settings are left by a clean-up that was killed. Their settings are unknown, so they are deleted.
    """
    settings_file = folder / "about.json"
    if settings_file.is_file() and _has_parts(folder):
        stored = _read_json(settings_file)
        check_same(stored if isinstance(stored, dict) else {}, about, str(folder.parent), _remedy(folder))
        return
    for part in folder.glob(FINISHED_PARTS):
        part.unlink()
    write_text(settings_file, json.dumps(about, indent=2) + "\n")


def _remedy(path: Path) -> str:
    return f"use the values it was started with or another folder, or remove {path}"


def _check_images(parts: Iterable[SampleSet]) -> None:
    """Check that all images exist, so that a search does not fail after hours because one is missing.

    Raises:
        UserError: if not; it gives their number and the first one.
    """
    paths = list(dict.fromkeys(part.path(sample) for part in parts for sample in part))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} images are missing, the first is {missing[0]}: add them, "
            f"or set their folder with --images"
        )


def _part_file(out: Path, number: int) -> Path:
    return out / PARTS / f"{number:05}.json"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: remove it and run this again ({error})") from error


def _count_masks(parts: Iterable[SampleSet]) -> int:
    return sum(len(sample.masks) for part in parts for sample in part)


@contextmanager
def _locked_parts(folder: Path) -> Iterator[None]:
    """A context with exclusive access to the folder. The folder is removed if no part was finished."""
    new = not folder.parent.exists()
    with lock_folder(folder):
        try:
            yield
        finally:
            if folder.exists() and not _has_parts(folder):
                shutil.rmtree(folder)
                if new and not any(folder.parent.iterdir()):
                    folder.parent.rmdir()


def _has_parts(folder: Path) -> bool:
    return any(folder.glob(FINISHED_PARTS))
