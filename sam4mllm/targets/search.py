"""Finds the prompts that reproduce a ground truth mask best, as targets for training (SAM4MLLM, ECCV 2024).

Random sets of points are tried with the segmenter and ranked by the IoU of its masks with the ground truth. They are
ranked first by an estimate at the decoder's size, if it has one. Then the best few are ranked exactly, at the size of
the image. `sam4mllm.targets.record` stores the targets.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image, Mask, Prompt, bounding_box, iou
from sam4mllm.geometry.sampling import clicks, jitter_box
from sam4mllm.segmenters import Capabilities, DraftingScene, Scene, Segmenter
from sam4mllm.targets.record import Target

PROMPTS_PER_DRAFT = 256
"""Prompts of an image that are drafted at once, before any is enlarged: 64 MiB of logits of the original SAM."""

_UPPER_BOUNDS = {
    "jitter": (math.nextafter(0.5, 0), "0 to less than 0.5"),
    "least": (1, "0 to 1"),
    "deep": (100, "0 to 100"),
    "lattice": (1000, "0 to 1000"),
}


@dataclass(frozen=True)
class Search:
    """The settings of a search for prompts.

    Attributes:
        candidates: candidates per mask, 1 or more. The first ones do not depend on this number.
        positive: positive points per candidate, on the mask, 0 or more.
        negative: negative points per candidate, off the mask and inside the box, 0 or more.
        jitter: maximum displacement of the box's edges, as a fraction of its sides, 0 to less than 0.5. The first
            candidate always has the mask's own box.
        keep: maximum number of prompts to keep, 1 or more. Twice as many are compared at the size of the image.
        least: minimum IoU of the prompts to keep, 0..1.
        seed: of the points and edges, 0 or more.
        fewer: maximum number of points of each sign that a candidate may lack, 0 or more. The number is drawn uniformly
            for each candidate; at least one positive point remains if ``positive`` is not 0.
        deep: preference for points far from edges (see `sampling.clicks`), 0 to 100.
        lattice: if not 0, points are at the centres of a lattice x lattice grid of the box, at most 1000; 0 for any
            pixel.

    Raises:
        UserError: if a value is not allowed.
    """

    candidates: int = 16
    positive: int = 3
    negative: int = 3
    jitter: float = 0.0
    keep: int = 4
    least: float = 0.5
    seed: int = 0
    fewer: int = 0
    deep: float = 0.0
    lattice: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            lower = 1 if name in ("candidates", "keep") else 0
            upper, allowed = _UPPER_BOUNDS.get(name, (math.inf, f"{lower} or more"))
            if not lower <= value <= upper:
                raise UserError(f"the search option {name} must be {allowed}, got {value}")


def make_targets(
    samples: SampleSet, segmenter: Segmenter, search: Search, progress: Callable[[], None] = lambda: None
) -> Iterator[Target]:
    """One target for each mask of each sample. A sample without masks has none, and its image is not read.

    Targets are ordered by image, in the order the samples name them first, then by sample and mask. Each image is read
    and embedded once, and one embedding is in memory at a time. A target depends only on its image, its mask, the
    sample's id and the search.

    Args:
        samples: samples with images.
        segmenter: segments the candidates.
        search: the settings of the search.
        progress: called after each mask.

    Raises:
        UserError: if an image cannot be read or its size differs from its sample's, naming both; if the segmenter does
            not support such prompts.
    """
    _check_points_supported(segmenter.capabilities, search)
    for image_samples in samples.with_masks().by_image():
        for target in image_targets(image_samples.read_image(*image_samples), image_samples.samples, segmenter, search):
            progress()
            yield target


def image_targets(image: Image, samples: Sequence[Sample], segmenter: Segmenter, search: Search) -> Iterator[Target]:
    """The targets of the samples of one image, in order. The scene is freed with this generator."""
    scene = segmenter.embed(image)
    masks = [(sample.id, index, rle) for sample in samples for index, rle in enumerate(sample.masks)]
    size = max(1, PROMPTS_PER_DRAFT // search.candidates) if isinstance(scene, DraftingScene) else 1
    for start in range(0, len(masks), size):
        chunk = [_MaskSearch(name, index, rle.mask, search) for name, index, rle in masks[start : start + size]]
        for mask_search, ranking in zip(chunk, _rank_prompts(scene, chunk, 2 * search.keep), strict=True):
            yield mask_search.target(ranking)


def candidates(mask: Mask, search: Search, rng: np.random.Generator) -> list[Prompt]:
    """The prompts to try for one object, each with its own random points on and off the mask inside its box.

    A prompt has fewer points than the search sets if the box contains fewer such pixels. Boxes stay inside the image.

    Args:
        mask: the ground truth mask.
        search: the number of prompts, and how to draw their boxes and points.
        rng: the source of randomness.

    Returns:
        The prompts; none for an empty mask.
    """
    box = bounding_box(mask)
    if box is None:
        return []
    height, width = mask.shape
    prompts = []
    for number in range(search.candidates):
        prompt_box = jitter_box(box, search.jitter, height, width, rng) if number and search.jitter else box
        positive = _draw_count(search.positive, search.fewer, 1, rng)
        negative = _draw_count(search.negative, search.fewer, 0, rng)
        points = clicks(mask, prompt_box, positive, negative, rng, search.deep, search.lattice)
        prompts.append(Prompt(prompt_box, points))
    return prompts


def best(
    scene: Scene, mask: Mask, candidates: Sequence[Prompt], keep: int = 1, least: float = 0.0
) -> list[tuple[Prompt, float]]:
    """The candidates that reproduce the mask best, with the IoU of the segmenter's mask, best first.

    Args:
        scene: the embedded image.
        mask: the ground truth mask, of the image's size.
        candidates: the prompts to try, all in one call of the segmenter. Ties keep their order.
        keep: the maximum number of results.
        least: minimum IoU of the results.

    Returns:
        At most ``keep`` pairs; none if no candidate reaches ``least``.
    """
    ious = [iou(segmented.mask, mask) for segmented in scene.segment(candidates)]
    pairs = [pair for pair in zip(candidates, ious, strict=True) if pair[1] >= least]
    return sorted(pairs, key=lambda pair: -pair[1])[:keep]


def report(targets: Iterable[Target], empty: int = 0) -> str:
    """A summary of a search in a few lines of text; one line if there are no targets.

    Args:
        targets: the targets that were found.
        empty: how many of them belong to masks without pixels.
    """
    ceilings, best_ious = list[float](), list[float]()
    for target in targets:
        ceilings.append(target.ceiling)
        best_ious += target.ious[:1]
    count = len(ceilings)
    if not count:
        return "0 masks"
    unkept = count - len(best_ious) - empty
    quality = f", the best of each with a mean IoU of {fmean(best_ious):.3f}" if best_ious else ""
    lines = [
        f"{count} masks, the best candidates with a mean IoU of {fmean(ceilings):.3f}",
        f"{len(best_ious)} masks keep prompts{quality}",
        f"{unkept} masks ({unkept / count:.1%}) keep none: all candidates are below the least IoU",
    ]
    if empty:
        lines.append(f"{empty} masks ({empty / count:.1%}) have no pixel to redraw")
    return "\n".join(lines)


def _check_points_supported(capabilities: Capabilities, search: Search) -> None:
    """Refuse a search with points that the segmenter does not support, before an image is read."""
    if (search.positive or search.negative) and not capabilities.points:
        raise UserError("the segmenter takes boxes only: set --positive 0 --negative 0")
    if search.negative and not capabilities.negative_points:
        raise UserError("the segmenter takes no negative points: set --negative 0")


class _MaskSearch:
    """One mask and the distinct prompts to try for it. A mask of few pixels has few."""

    def __init__(self, sample_id: str, index: int, mask: Mask, search: Search) -> None:
        self.sample_id, self.index, self.mask, self.search = sample_id, index, mask, search
        # a hash, so that the seed is the same on every machine and no two masks share their points
        digest = hashlib.sha256(f"{search.seed} {index} {sample_id}".encode()).digest()
        prompts = candidates(mask, search, np.random.default_rng(int.from_bytes(digest, "big")))
        self.prompts = list(dict.fromkeys(prompts))

    def target(self, ranking: Sequence[tuple[Prompt, float]]) -> Target:
        """The target from the prompts and their IoUs, best first."""
        pairs = [pair for pair in ranking if pair[1] >= self.search.least][: self.search.keep]
        prompts, ious = tuple(prompt for prompt, _ in pairs), tuple(score for _, score in pairs)
        return Target(self.sample_id, self.index, prompts, ious, ranking[0][1] if ranking else 0.0)


def _rank_prompts(
    scene: Scene, searches: Sequence[_MaskSearch], shortlist: int
) -> Iterator[list[tuple[Prompt, float]]]:
    """The best prompts of each mask with their IoU at the size of the image, best first. Ties keep their order.

    If the scene has drafts, those of all masks are made at once, and only the best ``shortlist`` of each are enlarged.
    """
    prompts = [prompt for search in searches for prompt in search.prompts]
    drafts = scene.draft(prompts) if isinstance(scene, DraftingScene) and prompts else None
    first = 0
    for search in searches:
        rows = range(first, first := first + len(search.prompts))
        if not rows:
            yield []
        elif drafts is None:
            yield best(scene, search.mask, search.prompts, keep=len(rows))
        else:
            estimates = dict(zip(rows, drafts.approximate_ious(rows, search.mask), strict=True))
            shortlisted = sorted(sorted(rows, key=lambda row: -estimates[row])[:shortlist])
            ious = [iou(scored.mask, search.mask) for scored in drafts.masks(shortlisted)]
            yield sorted(zip((prompts[row] for row in shortlisted), ious, strict=True), key=lambda pair: -pair[1])


def _draw_count(count: int, fewer: int, least: int, rng: np.random.Generator) -> int:
    """A random number from ``count`` - ``fewer`` to ``count``, but at least ``least``."""
    low = max(count - fewer, min(least, count))
    return int(rng.integers(low, count + 1)) if low < count else count
