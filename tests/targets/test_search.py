import random
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.data import samples as module
from sam4mllm.data.samples import Sample, SampleSet, write_samples
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Image, Point, Prompt, iou
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image, write_png
from sam4mllm.segmenters import Capabilities, DraftingScene, ScoredMask, Segmenter
from sam4mllm.segmenters.box import BoxSegmenter, fill
from sam4mllm.segmenters.grabcut import GrabCutSegmenter
from sam4mllm.targets.record import Target
from sam4mllm.targets.search import Search, best, candidates, make_targets, report

MASK = fill(Box(10, 5, 30, 25), 40, 50)
MASK[5:12, 10:16] = False
SCENE = BoxSegmenter().embed(np.zeros((40, 50, 3), dtype=np.uint8))


def tried(mask=MASK, seed=0, **options) -> list[Prompt]:
    return candidates(mask, Search(**options), np.random.default_rng(seed))


def test_candidates_share_the_masks_box_and_differ_in_their_points():
    results = tried(candidates=6, positive=2)
    assert len(set(results)) == 6
    assert {prompt.box for prompt in results} == {Box(10, 5, 30, 25)}
    assert {tuple(point.positive for point in prompt.points) for prompt in results} == {(True,) * 2 + (False,) * 3}


@given(st.floats(0, 0.499), st.integers(0, 2**32), st.tuples(*[st.integers(1, 12)] * 2))
def test_jitter_moves_edges_by_a_fraction_of_the_sides_inside_the_image(jitter, seed, sides):
    width, height = sides
    mask = fill(Box(3, 2, 3 + width, 2 + height), 15, 15)
    first, *jittered = tried(mask, seed, candidates=5, jitter=jitter)
    assert first.box == Box(3, 2, 3 + width, 2 + height)
    for prompt in jittered:
        moves = np.abs(np.subtract(prompt.box.xyxy, first.box.xyxy))
        assert (moves <= jitter * np.array([width, height, width, height]) + 1e-9).all()
        assert prompt.box == prompt.box.clip(15, 15)
        assert all(
            prompt.box.x0 <= p.x <= prompt.box.x1 and prompt.box.y0 <= p.y <= prompt.box.y1 for p in prompt.points
        )


def test_every_jittered_box_is_different():
    assert len({prompt.box for prompt in tried(candidates=6, jitter=0.1)}) == 6


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_the_first_candidates_do_not_depend_on_their_number(jitter):
    assert tried(candidates=3, jitter=jitter) == tried(candidates=8, jitter=jitter)[:3]


def test_an_empty_mask_has_no_candidates():
    assert tried(np.zeros((4, 4), dtype=bool)) == []


RIGHT, WIDE, OFF = Prompt(Box(10, 5, 30, 25)), Prompt(Box(5, 5, 35, 25)), Prompt(Box(40, 30, 45, 35))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [RIGHT], id="the best one"),
        pytest.param({"keep": 2}, [RIGHT, WIDE], id="best first"),
        pytest.param({"keep": 9}, [RIGHT, WIDE, OFF], id="no more than there are"),
        pytest.param({"keep": 9, "least": 0.5}, [RIGHT, WIDE], id="above the threshold"),
        pytest.param({"keep": 9, "least": 0.99}, [], id="none above the threshold"),
    ],
)
def test_the_best_candidates_reproduce_the_mask(options, expected):
    results = best(SCENE, MASK, [WIDE, OFF, RIGHT], **options)
    assert [prompt for prompt, _ in results] == expected
    assert all(score == iou(fill(prompt.box, 40, 50), MASK) for prompt, score in results)


def test_ties_keep_their_order():
    twins = [Prompt(RIGHT.box, (Point(float(x), 6.5),)) for x in range(4)]

    class Same:
        def segment(self, prompts):
            return [ScoredMask(MASK, 0.1 * index) for index, _ in enumerate(prompts)]

    assert best(Same(), MASK, twins, keep=4) == [(twin, 1.0) for twin in twins]


def test_the_best_candidate_beats_the_first_with_a_real_segmenter():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    mask = fill(Box(10, 10, 50, 50), 60, 60)
    mask[10:30, 10:30] = False
    image[mask] = image[mask] // 2
    prompts = candidates(mask, Search(candidates=8, positive=2, negative=2), rng)
    ranked = best(GrabCutSegmenter().embed(image), mask, prompts, keep=8)
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    assert ranked[0][1] > ranked[-1][1]


class Nearest:
    """Fills the part of the box whose nearest point is positive; records its calls and the number of live scenes."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self.embedded: list[Image] = []
        self.calls: list[int] = []
        self.alive: weakref.WeakSet[NearestScene] = weakref.WeakSet()
        self.most_alive = 0

    def embed(self, image: Image) -> "NearestScene":
        scene = NearestScene(image.shape[:2], self.calls)
        self.embedded.append(image)
        self.alive.add(scene)
        self.most_alive = max(self.most_alive, len(self.alive))
        return scene


class NearestScene:
    def __init__(self, shape: tuple[int, int], calls: list[int]) -> None:
        self.shape, self.calls = shape, calls

    def segment(self, prompts: Sequence[Prompt]) -> list[ScoredMask]:
        self.calls.append(len(prompts))
        return [ScoredMask(self.mask_of(prompt), 0.5) for prompt in prompts]

    def mask_of(self, prompt: Prompt) -> np.ndarray:
        rows, columns = np.indices(self.shape) + 0.5
        ranges = [np.hypot(columns - point.x, rows - point.y) for point in prompt.points]
        signs = np.array([point.positive for point in prompt.points])
        return fill(prompt.box, *self.shape) & signs[np.argmin(ranges, axis=0)]


NOTCHED = Rle.from_mask(MASK)
RING = Rle.from_mask(fill(Box(30, 2, 48, 30), 40, 50) & ~fill(Box(36, 10, 42, 20), 40, 50))
HOOK = Rle.from_mask(fill(Box(2, 20, 30, 38), 40, 50) & ~fill(Box(2, 20, 22, 30), 40, 50))
EMPTY = Rle.empty(40, 50)
SEARCH = Search(candidates=8, positive=2, negative=2, jitter=0.1, keep=3, least=0.7)


@pytest.fixture
def samples(tmp_path: Path) -> SampleSet:
    """Three images of noise, the third one missing, with samples in mixed order."""
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        write_png(tmp_path / f"{number}.png", noise)
    first = Sample("a", "0.png", 50, 40, "the left", (NOTCHED, RING))
    return SampleSet(
        (
            first,
            replace(first, id="b", image="1.png", masks=(HOOK,)),
            replace(first, id="nothing", image="gone.png", masks=()),
            replace(first, id="c", masks=(NOTCHED,)),
            replace(first, id="d", image="1.png", masks=(EMPTY, RING)),
        ),
        tmp_path,
    )


def search(samples: SampleSet, segmenter: Segmenter | None = None, **options) -> list[Target]:
    return list(make_targets(samples, segmenter or Nearest(), replace(SEARCH, **options)))


@pytest.fixture
def targets(samples: SampleSet) -> dict[tuple[str, int], Target]:
    return {(target.sample_id, target.index): target for target in search(samples)}


def test_targets_are_ordered_by_image_sample_and_mask(targets):
    assert list(targets) == [("a", 0), ("a", 1), ("c", 0), ("b", 0), ("d", 0), ("d", 1)]


def test_a_target_does_not_depend_on_other_samples(samples, targets):
    for seed in range(5):
        shuffled = random.Random(seed).sample(samples.samples, len(samples))
        results = search(replace(samples, samples=tuple(shuffled)))
        assert {(target.sample_id, target.index): target for target in results} == targets
        assert len(results) == len(targets)
    for sample in samples:
        single = search(replace(samples, samples=(sample,)))
        assert single == [target for target in targets.values() if target.sample_id == sample.id]


def test_each_mask_has_its_own_points(samples, targets):
    assert targets["a", 0] != replace(targets["c", 0], sample_id="a")  # one mask and one image, but two samples
    twice = replace(samples.samples[0], masks=(NOTCHED, NOTCHED))
    first, second = search(replace(samples, samples=(twice,)))
    assert first != replace(second, index=0)
    assert search(samples, seed=1)[0] != targets["a", 0]


def test_another_process_finds_the_same_targets(samples, tmp_path):
    """Python's own string hash would differ."""
    write_samples(samples, tmp_path / "data", samples.images)
    settings = Search(positive=0, negative=0, jitter=0.2)
    code = (
        "from pathlib import Path; from sam4mllm.data.samples import read_samples\n"
        "from sam4mllm.segmenters.box import BoxSegmenter; from sam4mllm.targets.search import *\n"
        f"targets = make_targets(read_samples(Path({str(tmp_path / 'data')!r})), BoxSegmenter(), {settings})\n"
        "print(*targets, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(target) for target in make_targets(samples, BoxSegmenter(), settings)]


def test_each_image_is_read_and_embedded_once_with_one_scene_in_memory(samples, monkeypatch):
    segmenter, read = Nearest(), []
    monkeypatch.setattr(module, "read_image", lambda path: read.append(path) or read_image(path))
    search(samples, segmenter)
    assert read == [samples.images / "0.png", samples.images / "1.png"]
    assert len(segmenter.embedded) == 2
    assert segmenter.most_alive == 1


def test_candidates_of_a_mask_are_segmented_in_one_call_and_empty_masks_in_none(samples):
    segmenter = Nearest()
    search(samples, segmenter)
    assert segmenter.calls == [8] * 5


def test_progress_is_called_before_each_target_is_yielded(samples):
    progress_calls = []
    seen = [len(progress_calls) for _ in make_targets(samples, Nearest(), SEARCH, lambda: progress_calls.append(1))]
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_ious_are_reproduced_by_a_real_segmenter(samples):
    masks = {(sample.id, index): rle.mask for sample in samples for index, rle in enumerate(sample.masks)}
    images = {sample.id: samples.path(sample) for sample in samples}
    results = search(samples, GrabCutSegmenter(), least=0.0)
    assert sum(len(target.prompts) for target in results) == 15
    for target in results:
        scored_masks = GrabCutSegmenter().embed(read_image(images[target.sample_id])).segment(target.prompts)
        assert target.ious == tuple(
            iou(segmented.mask, masks[target.sample_id, target.index]) for segmented in scored_masks
        )
        assert list(target.ious) == sorted(target.ious, reverse=True)


@pytest.mark.parametrize("least", [0.0, 0.6, 0.75, 1.0])
@pytest.mark.parametrize("keep", [1, 4, 9])
def test_the_search_keeps_the_best_that_reach_the_minimum_iou(samples, keep, least):
    everything = search(samples, keep=8, least=0.0)
    results = search(samples, keep=keep, least=least)
    for target, unfiltered in zip(results, everything, strict=True):
        count = min(keep, sum(score >= least for score in unfiltered.ious))
        assert target.prompts == unfiltered.prompts[:count]
        assert target.ious == unfiltered.ious[:count]
        assert target.ceiling == unfiltered.ceiling == max(unfiltered.ious, default=0.0)
    if least == 0.75:  # the filter drops some prompts and keeps some
        assert 0 < sum(score >= least for target in everything for score in target.ious) < 5 * 8


class Sketching(Nearest):
    """Segments like `Nearest`, with drafts whose ranking differs slightly from that of the full masks."""

    def embed(self, image: Image) -> "SketchingScene":
        return SketchingScene(image.shape[:2], self.calls)


class SketchingScene(NearestScene):
    def draft(self, prompts: Sequence[Prompt]) -> "Sketches":
        return Sketches(self, prompts)


class Sketches:
    def __init__(self, scene: SketchingScene, prompts: Sequence[Prompt]) -> None:
        self.scene, self.prompts = scene, prompts

    def approximate_ious(self, rows: Sequence[int], mask: np.ndarray) -> list[float]:
        """The full ranking, with the two halves of the best four swapped."""
        full = [iou(self.scene.mask_of(self.prompts[row]), mask) for row in rows]
        order = sorted(range(len(full)), key=lambda row: -full[row])
        swapped = order[2:4] + order[:2] + order[4:]
        return [1 - swapped.index(row) / 100 for row in range(len(full))]

    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        return [ScoredMask(self.scene.mask_of(self.prompts[row]), 0.5) for row in rows]


def test_twice_as_many_drafts_as_kept_prompts_are_enlarged(samples):
    assert isinstance(Sketching().embed(np.zeros((40, 50, 3), np.uint8)), DraftingScene)
    assert search(samples, Sketching(), keep=2, least=0.0) == search(samples, keep=2, least=0.0)
    # the best is the third draft, which two enlarged drafts do not include
    pairs = zip(*(search(samples, segmenter, keep=1, least=0.0) for segmenter in (Sketching(), Nearest())), strict=True)
    assert any(drafted.ious < exact.ious for drafted, exact in pairs)


def test_more_candidates_never_lower_the_ceiling(samples):
    ceilings = np.array([[t.ceiling for t in search(samples, candidates=k)] for k in (1, 2, 4, 8, 16)])
    assert (np.diff(ceilings, axis=0) >= 0).all()
    assert (ceilings[-1] > ceilings[0]).any()


def test_an_empty_mask_has_no_prompts_and_no_ceiling(targets):
    assert targets["d", 0] == Target("d", 0, (), (), 0.0)


def test_equal_candidates_are_kept_once(samples):
    pixel = Rle.from_mask(fill(Box(7, 7, 8, 8), 40, 50))
    single = replace(samples, samples=(replace(samples.samples[0], masks=(pixel,)),))
    [target] = make_targets(single, Nearest(), Search(keep=9))
    assert target == Target("a", 0, (Prompt(Box(7, 7, 8, 8), (Point(7.5, 7.5),)),), (1.0,), 1.0)


def test_a_segmenter_without_points_searches_boxes_only(samples):
    with pytest.raises(UserError, match=r"the segmenter takes boxes only: .* --positive 0 --negative 0$"):
        search(samples, BoxSegmenter())
    results = search(samples, BoxSegmenter(), positive=0, negative=0, least=0.0)
    assert {prompt.points for target in results for prompt in target.prompts} == {()}


def test_a_segmenter_without_negative_points_searches_positive_ones(samples):
    segmenter = Nearest()
    segmenter.capabilities = Capabilities(negative_points=False)
    with pytest.raises(UserError, match=r"takes no negative points: .* --negative 0$"):
        search(samples, segmenter)
    results = search(samples, segmenter, negative=0)
    assert all(point.positive for target in results for prompt in target.prompts for point in prompt.points)


def test_an_unusable_image_is_a_one_line_error_with_its_sample(samples):
    first = samples.samples[0]
    (samples.images / "text.png").write_text("not an image")
    size = {"width": 40, "height": 50, "masks": (Rle.empty(50, 40),)}
    for bad, message in (
        (replace(first, image="gone.png"), f"sample a: no such file: {samples.images}/gone.png"),
        (replace(first, image="text.png"), f"sample a: {samples.images}/text.png is not an image"),
        (replace(first, **size), f"sample a: {samples.images}/0.png is 50 x 40 pixels, but the sample has 40 x 50"),
    ):
        with pytest.raises(UserError) as caught:
            search(replace(samples, samples=(samples.samples[3], bad)))
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("candidates", 0), ("positive", -1), ("negative", -1), ("keep", 0), ("seed", -1)),
        *(("jitter", 0.5), ("jitter", -0.1), ("jitter", float("nan")), ("least", 1.1), ("least", float("nan"))),
        *(("deep", 400.0), ("lattice", 10**9)),
    ],
)
def test_an_invalid_search_is_refused(name, value):
    with pytest.raises(UserError, match=f"the search option {name} must be .*, got {value}"):
        Search(**{name: value})


TARGET = Target("a", 0, (RIGHT, WIDE), (0.9, 0.6), 0.9)


@pytest.mark.parametrize(
    ("targets", "empty", "text"),
    [
        pytest.param([], 0, "0 masks", id="none"),
        pytest.param(
            [TARGET, replace(TARGET, index=1, ious=(0.7, 0.6), ceiling=0.7), Target("b", 0, (), (), 0.2)],
            0,
            "3 masks, the best candidates with a mean IoU of 0.600\n"
            "2 masks keep prompts, the best of each with a mean IoU of 0.800\n"
            "1 masks (33.3%) keep none: all candidates are below the least IoU",
            id="some",
        ),
        pytest.param(
            [Target("b", 0, (), (), 0.25)],
            0,
            "1 masks, the best candidates with a mean IoU of 0.250\n"
            "0 masks keep prompts\n"
            "1 masks (100.0%) keep none: all candidates are below the least IoU",
            id="none kept",
        ),
        pytest.param(
            [TARGET, Target("b", 0, (), (), 0.3), Target("c", 0, (), (), 0.0), Target("d", 0, (), (), 0.0)],
            2,
            "4 masks, the best candidates with a mean IoU of 0.300\n"
            "1 masks keep prompts, the best of each with a mean IoU of 0.900\n"
            "1 masks (25.0%) keep none: all candidates are below the least IoU\n"
            "2 masks (50.0%) have no pixel to redraw",
            id="masks without pixels are not below the least IoU",
        ),
    ],
)
def test_the_report_counts_and_means(targets, empty, text):
    assert report(iter(targets), empty) == text
