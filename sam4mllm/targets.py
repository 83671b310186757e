"""From a true mask to the prompts that redraw it best: what a model should learn to say (SAM4MLLM, ECCV 2024).

Random sets of clicks are tried on the segmenter and ranked by the IoU of what it draws with the mask. Knows nothing of
language, of data sets, and of how targets are kept (see `sam4mllm.target_shards`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Image, Mask, Prompt, box_of, iou
from sam4mllm.images import read_image
from sam4mllm.samples import Sample, SampleSet
from sam4mllm.sampling import clicks
from sam4mllm.segmenter import Scene, Segmenter
from sam4mllm.target_shards import Target


@dataclass(frozen=True)
class Search:
    """How prompts are looked for.

    Attributes:
        candidates: how many are tried for each mask, 1 or more; a first few are the same however many follow.
        positive: clicks on the mask in each, 0 or more.
        negative: clicks off the mask, inside the box, in each, 0 or more.
        jitter: the share of the box's sides by which its edges are moved at most, 0 to less than 0.5; the first
            candidate always has the mask's own box.
        keep: how many are kept at most, 1 or more.
        least: the IoU below which none is kept, 0..1.
        seed: of the clicks and edges, 0 or more.

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

    def __post_init__(self) -> None:
        for name, value, sound, allowed in (
            ("candidates", self.candidates, self.candidates >= 1, "1 or more"),
            ("positive", self.positive, self.positive >= 0, "0 or more"),
            ("negative", self.negative, self.negative >= 0, "0 or more"),
            ("jitter", self.jitter, 0 <= self.jitter < 0.5, "0 to less than 0.5"),
            ("keep", self.keep, self.keep >= 1, "1 or more"),
            ("least", self.least, 0 <= self.least <= 1, "0 to 1"),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
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
        segmenter: what draws the candidates, all of a mask's in one call.
        search: what is tried, and what is kept.
        progress: called after each mask.

    Raises:
        UserError: naming sample and picture, for a picture that cannot be read or has another size than its sample
            says; and where the segmenter cannot take such prompts.
    """
    by_picture: dict[Path, list[Sample]] = {}
    for sample in samples:
        if sample.masks:
            by_picture.setdefault(samples.path(sample), []).append(sample)
    for path, about in by_picture.items():
        for target in _targets(path, about, segmenter, search):
            progress()
            yield target


def candidates(
    mask: Mask,
    k: int,
    *,
    positive: int,
    negative: int,
    rng: np.random.Generator,
    box: Box | None = None,
    jitter: float = 0.0,
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

    Returns:
        The prompts; none for an empty mask without a box.
    """
    box = box or box_of(mask)
    if box is None:
        return []
    found = []
    for number in range(k):
        around = _moved(box, jitter, mask, rng) if number and jitter else box
        found.append(Prompt(around, clicks(mask, around, positive, negative, rng)))
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


def report(targets: Iterable[Target]) -> str:
    """How a search went, in three lines for a person; one where there are no targets."""
    found = list(targets)
    if not found:
        return "0 masks"
    firsts = [target.ious[0] for target in found if target.prompts]
    lost = len(found) - len(firsts)
    quality = f", the best of each with a mean IoU of {fmean(firsts):.3f}" if firsts else ""
    return (
        f"{len(found)} masks, the best candidates with a mean IoU of {fmean(target.ceiling for target in found):.3f}\n"
        f"{len(firsts)} masks keep prompts{quality}\n"
        f"{lost} masks ({lost / len(found):.1%}) keep none: all candidates are below the least IoU"
    )


def _targets(path: Path, samples: Sequence[Sample], segmenter: Segmenter, search: Search) -> Iterator[Target]:
    """The targets of one picture. The scene ends with this generator, before the next picture is embedded."""
    scene = segmenter.embed(_picture(path, samples))
    for sample in samples:
        for index, rle in enumerate(sample.masks):
            yield _searched(scene, rle.mask, sample.id, index, search)


def _picture(path: Path, samples: Sequence[Sample]) -> Image:
    try:
        image = read_image(path)
    except UserError as error:
        raise UserError(f"sample {samples[0].id}: {error}") from error
    height, width, _ = image.shape
    for sample in samples:
        if (sample.height, sample.width) != (height, width):
            raise UserError(
                f"sample {sample.id}: {path} is {width} x {height} pixels, the sample says "
                f"{sample.width} x {sample.height}"
            )
    return image


def _searched(scene: Scene, mask: Mask, sample_id: str, index: int, search: Search) -> Target:
    # a hash, so that the seed is the same on every machine and no two masks share their clicks
    digest = hashlib.sha256(f"{search.seed} {index} {sample_id}".encode()).digest()
    tried = candidates(
        mask,
        search.candidates,
        positive=search.positive,
        negative=search.negative,
        rng=np.random.default_rng(int.from_bytes(digest, "big")),
        jitter=search.jitter,
    )
    if not tried:
        return Target(sample_id, index, (), (), 0.0)
    different = list(dict.fromkeys(tried))  # a mask of few pixels has few sets of clicks
    ranked = best(scene, mask, different, keep=len(different))
    kept = [pair for pair in ranked if pair[1] >= search.least][: search.keep]
    return Target(
        sample_id, index, tuple(prompt for prompt, _ in kept), tuple(score for _, score in kept), ranked[0][1]
    )


def _moved(box: Box, jitter: float, mask: Mask, rng: np.random.Generator) -> Box:
    sides = np.array([box.width, box.height] * 2)
    x0, y0, x1, y1 = (np.array(box.xyxy) + rng.uniform(-jitter, jitter, 4) * sides).tolist()
    return Box(x0, y0, x1, y1).clip(mask.shape[1], mask.shape[0])
