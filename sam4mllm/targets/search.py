"""From a true mask to the prompts that redraw it best: what a model should learn to say (SAM4MLLM, ECCV 2024).

Random sets of clicks are tried on the segmenter and ranked by the IoU of its masks with the true one: first by an
estimate at the decoder's own size, if it has one, then the best few exactly, at the size of the image. Knows nothing of
language, of data sets, and of how targets are stored (`sam4mllm.targets.record`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Image, Mask, Prompt, box_of, iou
from sam4mllm.geometry.sampling import clicks
from sam4mllm.segmenters import DraftingScene, Scene, Segmenter, Takes
from sam4mllm.targets.record import Target

TOGETHER = 256
"""How many prompts of an image are drafted before any is enlarged: 64 MiB of logits of the original SAM."""


@dataclass(frozen=True)
class Search:
    """How prompts are looked for.

    Attributes:
        candidates: how many are tried for each mask, 1 or more; a first few are the same however many follow.
        positive: clicks on the mask in each, 0 or more.
        negative: clicks off the mask, inside the box, in each, 0 or more.
        jitter: the share of the box's sides by which its edges are moved at most, 0 to less than 0.5; the first
            candidate always has the mask's own box.
        keep: how many are kept at most, 1 or more; twice as many are compared at the size of the image.
        least: the IoU below which none is kept, 0..1.
        seed: of the clicks and edges, 0 or more.
        fewer: how many clicks of each sign a candidate may lack, 0 or more; drawn anew for each, every number as
            likely, and none left without a click on the mask that was to have one.
        deep: how much likelier clicks are far from the edges (see `sampling.clicks`), 0 to 100.
        lattice: clicks are at the centres of so many by so many cells of the box, at most 1000; 0 for any pixel.

    Raises:
        UserError: for a value that is not allowed.
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
        for name, value, sound, allowed in (
            ("candidates", self.candidates, self.candidates >= 1, "1 or more"),
            ("positive", self.positive, self.positive >= 0, "0 or more"),
            ("negative", self.negative, self.negative >= 0, "0 or more"),
            ("jitter", self.jitter, 0 <= self.jitter < 0.5, "0 to less than 0.5"),
            ("keep", self.keep, self.keep >= 1, "1 or more"),
            ("least", self.least, 0 <= self.least <= 1, "0 to 1"),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
            ("fewer", self.fewer, self.fewer >= 0, "0 or more"),
            ("deep", self.deep, 0 <= self.deep <= 100, "0 to 100"),
            ("lattice", self.lattice, 0 <= self.lattice <= 1000, "0 to 1000"),
        ):
            if not sound:
                raise UserError(f"a search's {name} is {allowed}, got {value}")


def make_targets(
    samples: SampleSet, segmenter: Segmenter, search: Search, progress: Callable[[], None] = lambda: None
) -> Iterator[Target]:
    """One target for each mask of each sample; a sample without masks has none, and its picture is not read for it.

    Pictures come in the order in which the samples name them first, and within a picture the samples and their masks
    in order; each picture is read and embedded once, and one embedding is held at a time. A target depends on its
    picture, its mask, its sample's id and the search alone, not on what else is there.

    Args:
        samples: with pictures.
        segmenter: what draws the candidates.
        search: what is tried, and what is kept.
        progress: called after each mask.

    Raises:
        UserError: naming sample and picture, for a picture that cannot be read or has another size than its sample
            says; and where the segmenter cannot take such prompts.
    """
    _check_takes(segmenter.takes, search)
    for about in samples.with_masks().by_picture():
        for target in picture_targets(about.picture(*about), about.samples, segmenter, search):
            progress()
            yield target


def picture_targets(image: Image, samples: Sequence[Sample], segmenter: Segmenter, search: Search) -> Iterator[Target]:
    """The targets of the samples of one image, in order; the scene ends with this generator."""
    scene = segmenter.embed(image)
    masks = [(sample.id, index, rle) for sample in samples for index, rle in enumerate(sample.masks)]
    size = max(1, TOGETHER // search.candidates) if isinstance(scene, DraftingScene) else 1
    for start in range(0, len(masks), size):
        chunk = [_MaskSearch(name, index, rle.mask, search) for name, index, rle in masks[start : start + size]]
        for mask_search, ranking in zip(chunk, _rank_prompts(scene, chunk, 2 * search.keep), strict=True):
            yield mask_search.target(ranking)


def candidates(
    mask: Mask,
    k: int,
    *,
    positive: int,
    negative: int,
    rng: np.random.Generator,
    box: Box | None = None,
    jitter: float = 0.0,
    fewer: int = 0,
    deep: float = 0.0,
    lattice: int = 0,
) -> list[Prompt]:
    """``k`` prompts of one object, each with its own random clicks on and off the mask inside its box.

    Args:
        mask: the true mask.
        k: how many prompts.
        positive: clicks on the mask in each; fewer where the box holds fewer such pixels.
        negative: clicks off the mask in each; likewise.
        rng: where the clicks come from.
        box: the box of them all; the mask's own where None.
        jitter: the share of the box's sides, 0 to less than 0.5, by which the edges of all boxes but the first are
            moved at most, within the picture.
        fewer: how many clicks of each sign a prompt may lack (see `Search`).
        deep: how much likelier clicks are far from the edges (see `sampling.clicks`).
        lattice: of how many by how many cells of the box the centres are clicked on; 0 for any pixel.

    Returns:
        The prompts; none for an empty mask without a box.
    """
    box = box or box_of(mask)
    if box is None:
        return []
    found = []
    for number in range(k):
        around = _moved(box, jitter, mask, rng) if number and jitter else box
        on, off = (_some_of(count, fewer, least, rng) for count, least in ((positive, 1), (negative, 0)))
        found.append(Prompt(around, clicks(mask, around, on, off, rng, deep, lattice)))
    return found


def best(
    scene: Scene, mask: Mask, candidates: Sequence[Prompt], keep: int = 1, least: float = 0.0
) -> list[tuple[Prompt, float]]:
    """The candidates that redraw the mask best, with the IoU of what the segmenter drew, best first.

    Args:
        scene: the picture, embedded.
        mask: the true mask, of the picture's size.
        candidates: the prompts to try, all in one call of the segmenter; equals keep their order.
        keep: how many to return at most.
        least: the IoU below which a candidate is dropped.

    Returns:
        At most ``keep`` pairs; none where no candidate reaches ``least``.
    """
    drawn = [
        (prompt, iou(scored.mask, mask)) for prompt, scored in zip(candidates, scene.segment(candidates), strict=True)
    ]
    return sorted((pair for pair in drawn if pair[1] >= least), key=lambda pair: -pair[1])[:keep]


def report(targets: Iterable[Target], empty: int = 0) -> str:
    """How a search went, in a few lines for a person; one where there are no targets.

    Args:
        targets: that were found.
        empty: how many of them are of masks without a pixel.
    """
    found = list(targets)
    if not found:
        return "0 masks"
    firsts = [target.ious[0] for target in found if target.prompts]
    lost = len(found) - len(firsts) - empty
    bare = f"\n{empty} masks ({empty / len(found):.1%}) have no pixel to redraw" if empty else ""
    quality = f", the best of each with a mean IoU of {fmean(firsts):.3f}" if firsts else ""
    return (
        f"{len(found)} masks, the best candidates with a mean IoU of {fmean(target.ceiling for target in found):.3f}\n"
        f"{len(firsts)} masks keep prompts{quality}\n"
        f"{lost} masks ({lost / len(found):.1%}) keep none: all candidates are below the least IoU{bare}"
    )


def _check_takes(takes: Takes, search: Search) -> None:
    """Refuse a search for what the segmenter cannot be given, before a picture is read."""
    if (search.positive or search.negative) and not takes.points:
        raise UserError("the segmenter takes boxes only: search without points, --positive 0 --negative 0")
    if search.negative and not takes.negative_points:
        raise UserError("the segmenter takes no points off the object: search without them, --negative 0")


class _MaskSearch:
    """One mask and the distinct prompts that are tried for it; a mask of few pixels has few."""

    def __init__(self, sample_id: str, index: int, mask: Mask, search: Search) -> None:
        self.sample_id, self.index, self.mask, self.search = sample_id, index, mask, search
        # a hash, so that the seed is the same on every machine and no two masks share their clicks
        digest = hashlib.sha256(f"{search.seed} {index} {sample_id}".encode()).digest()
        prompts = candidates(
            mask,
            search.candidates,
            positive=search.positive,
            negative=search.negative,
            rng=np.random.default_rng(int.from_bytes(digest, "big")),
            jitter=search.jitter,
            fewer=search.fewer,
            deep=search.deep,
            lattice=search.lattice,
        )
        self.prompts = list(dict.fromkeys(prompts))

    def target(self, ranking: Sequence[tuple[Prompt, float]]) -> Target:
        """The target, from the prompts and their IoUs, best first."""
        pairs = [pair for pair in ranking if pair[1] >= self.search.least][: self.search.keep]
        prompts, ious = tuple(prompt for prompt, _ in pairs), tuple(score for _, score in pairs)
        return Target(self.sample_id, self.index, prompts, ious, ranking[0][1] if ranking else 0.0)


def _rank_prompts(
    scene: Scene, searches: Sequence[_MaskSearch], shortlist: int
) -> Iterator[list[tuple[Prompt, float]]]:
    """For each mask its best prompts with their IoU at the size of the image, best first; equals keep their order.

    If the scene has drafts, those of all masks are made together, and only the best ``shortlist`` of each are enlarged.
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
            chosen = sorted(sorted(rows, key=lambda row: -estimates[row])[:shortlist])
            ious = [iou(scored.mask, search.mask) for scored in drafts.masks(chosen)]
            yield sorted(zip((prompts[row] for row in chosen), ious, strict=True), key=lambda pair: -pair[1])


def _some_of(count: int, fewer: int, least: int, rng: np.random.Generator) -> int:
    """Between ``count`` less ``fewer`` and ``count``; nothing is drawn where there is no choice."""
    low = max(count - fewer, min(least, count))
    return int(rng.integers(low, count + 1)) if low < count else count


def _moved(box: Box, jitter: float, mask: Mask, rng: np.random.Generator) -> Box:
    sides = np.array([box.width, box.height] * 2)
    x0, y0, x1, y1 = (np.array(box.xyxy) + rng.uniform(-jitter, jitter, 4) * sides).tolist()
    return Box(x0, y0, x1, y1).clip(mask.shape[1], mask.shape[0])
