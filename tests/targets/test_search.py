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
from sam4mllm.segmenters import DraftingScene, ScoredMask, Takes
from sam4mllm.segmenters.box import BoxSegmenter, fill
from sam4mllm.segmenters.grabcut import GrabCutSegmenter
from sam4mllm.targets.record import Target
from sam4mllm.targets.search import Search, best, candidates, make_targets, report

MASK = fill(Box(10, 5, 30, 25), 40, 50)
MASK[5:12, 10:16] = False
SCENE = BoxSegmenter().embed(np.zeros((40, 50, 3), dtype=np.uint8))


def test_candidates_share_the_masks_box_and_differ_in_their_clicks():
    found = candidates(MASK, 6, positive=2, negative=3, rng=np.random.default_rng(0))
    assert len(set(found)) == 6
    assert {prompt.box for prompt in found} == {Box(10, 5, 30, 25)}
    assert {tuple(point.positive for point in prompt.points) for prompt in found} == {(True,) * 2 + (False,) * 3}


def test_candidates_can_be_given_another_box():
    found = candidates(MASK, 2, positive=1, negative=0, rng=np.random.default_rng(0), box=Box(20, 10, 22, 12))
    assert {prompt.box for prompt in found} == {Box(20, 10, 22, 12)}
    assert all(20 < prompt.points[0].x < 22 for prompt in found)


def test_candidates_follow_the_seed():
    one, same = (candidates(MASK, 3, positive=2, negative=2, rng=np.random.default_rng(5)) for _ in range(2))
    assert one == same


@given(st.floats(0, 0.499), st.integers(0, 2**32), st.tuples(*[st.integers(1, 12)] * 2))
def test_jitter_moves_the_edges_by_a_share_of_the_sides_and_not_off_the_picture(jitter, seed, sides):
    width, height = sides
    mask = fill(Box(3, 2, 3 + width, 2 + height), 15, 15)
    first, *others = candidates(mask, 5, positive=2, negative=2, rng=np.random.default_rng(seed), jitter=jitter)
    assert first.box == Box(3, 2, 3 + width, 2 + height)
    for prompt in others:
        moves = np.abs(np.subtract(prompt.box.xyxy, first.box.xyxy))
        assert (moves <= jitter * np.array([width, height, width, height]) + 1e-9).all()
        assert prompt.box == prompt.box.clip(15, 15)
        assert all(
            prompt.box.x0 <= p.x <= prompt.box.x1 and prompt.box.y0 <= p.y <= prompt.box.y1 for p in prompt.points
        )


def test_every_jittered_box_is_another_one():
    found = candidates(MASK, 6, positive=1, negative=1, rng=np.random.default_rng(0), jitter=0.1)
    assert len({prompt.box for prompt in found}) == 6


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_the_first_candidates_are_the_same_however_many_follow(jitter):
    few, many = (
        candidates(MASK, k, positive=2, negative=2, rng=np.random.default_rng(0), jitter=jitter) for k in (3, 8)
    )
    assert few == many[:3]


def test_an_empty_mask_has_no_candidates():
    assert candidates(np.zeros((4, 4), dtype=bool), 3, positive=1, negative=1, rng=np.random.default_rng(0)) == []


RIGHT, WIDE, OFF = Prompt(Box(10, 5, 30, 25)), Prompt(Box(5, 5, 35, 25)), Prompt(Box(40, 30, 45, 35))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        pytest.param({}, [RIGHT], id="the best one"),
        pytest.param({"keep": 2}, [RIGHT, WIDE], id="best first"),
        pytest.param({"keep": 9}, [RIGHT, WIDE, OFF], id="no more than there are"),
        pytest.param({"keep": 9, "least": 0.5}, [RIGHT, WIDE], id="above the threshold"),
        pytest.param({"keep": 9, "least": 0.99}, [], id="none above the threshold"),
    ],
)
def test_the_best_are_those_that_redraw_the_mask(options, kept):
    found = best(SCENE, MASK, [WIDE, OFF, RIGHT], **options)
    assert [prompt for prompt, _ in found] == kept
    assert all(score == iou(fill(prompt.box, 40, 50), MASK) for prompt, score in found)


def test_equals_keep_their_order():
    twins = [Prompt(RIGHT.box, (Point(float(x), 6.5),)) for x in range(4)]

    class Same:
        def segment(self, prompts):
            return [ScoredMask(MASK, 0.1 * index) for index, _ in enumerate(prompts)]

    assert best(Same(), MASK, twins, keep=4) == [(twin, 1.0) for twin in twins]


def test_no_candidates_are_no_targets():
    assert best(SCENE, MASK, []) == []


def test_the_best_of_several_sets_beats_the_first_on_a_real_segmenter():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    mask = fill(Box(10, 10, 50, 50), 60, 60)
    mask[10:30, 10:30] = False
    image[mask] = image[mask] // 2
    tried = candidates(mask, 8, positive=2, negative=2, rng=rng)
    ranked = best(GrabCutSegmenter().embed(image), mask, tried, keep=8)
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    assert ranked[0][1] > ranked[-1][1]


class Nearest:
    """Fills the part of the box whose nearest click is positive; notes its calls and how many scenes are alive."""

    takes = Takes()

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
        return [ScoredMask(self.drawn(prompt), 0.5) for prompt in prompts]

    def drawn(self, prompt: Prompt) -> np.ndarray:
        rows, columns = np.indices(self.shape) + 0.5
        ranges = [np.hypot(columns - point.x, rows - point.y) for point in prompt.points]
        signs = np.array([point.positive for point in prompt.points])
        return fill(prompt.box, *self.shape) & signs[np.argmin(ranges, axis=0)]


LEFT = Rle.from_mask(MASK)
RING = Rle.from_mask(fill(Box(30, 2, 48, 30), 40, 50) & ~fill(Box(36, 10, 42, 20), 40, 50))
HOOK = Rle.from_mask(fill(Box(2, 20, 30, 38), 40, 50) & ~fill(Box(2, 20, 22, 30), 40, 50))
EMPTY = Rle.empty(40, 50)
SEARCH = Search(candidates=8, positive=2, negative=2, jitter=0.1, keep=3, least=0.7)


@pytest.fixture
def samples(tmp_path: Path) -> SampleSet:
    """Three pictures of noise, the third of them missing, and samples that go back and forth between them."""
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        write_png(tmp_path / f"{number}.png", noise)
    first = Sample("a", "0.png", 50, 40, "the left", (LEFT, RING))
    return SampleSet(
        (
            first,
            replace(first, id="b", image="1.png", masks=(HOOK,)),
            replace(first, id="nothing", image="gone.png", masks=()),
            replace(first, id="c", masks=(LEFT,)),
            replace(first, id="d", image="1.png", masks=(EMPTY, RING)),
        ),
        tmp_path,
    )


def test_targets_come_by_picture_then_sample_then_mask(samples):
    found = make_targets(samples, Nearest(), SEARCH)
    assert [(target.sample_id, target.index) for target in found] == [
        ("a", 0),
        ("a", 1),
        ("c", 0),
        ("b", 0),
        ("d", 0),
        ("d", 1),
    ]


def test_a_target_does_not_depend_on_what_else_is_there(samples):
    whole = {(target.sample_id, target.index): target for target in make_targets(samples, Nearest(), SEARCH)}
    for seed in range(5):
        shuffled = random.Random(seed).sample(samples.samples, len(samples))
        found = list(make_targets(replace(samples, samples=tuple(shuffled)), Nearest(), SEARCH))
        assert {(target.sample_id, target.index): target for target in found} == whole
        assert len(found) == len(whole)
    for sample in samples:
        alone = list(make_targets(replace(samples, samples=(sample,)), Nearest(), SEARCH))
        assert alone == [target for target in whole.values() if target.sample_id == sample.id]


def test_each_mask_has_its_own_clicks(samples):
    found = {(target.sample_id, target.index): target for target in make_targets(samples, Nearest(), SEARCH)}
    assert found["a", 0] != replace(found["c", 0], sample_id="a")  # one mask, one picture, two samples
    twice = replace(samples.samples[0], masks=(LEFT, LEFT))
    first, second = make_targets(replace(samples, samples=(twice,)), Nearest(), SEARCH)
    assert first != replace(second, index=0)
    other = dict(enumerate(make_targets(samples, Nearest(), replace(SEARCH, seed=1))))
    assert other[0] != found["a", 0]


def test_another_process_finds_the_same_targets(samples, tmp_path):
    """Python's own hash of a text would differ."""
    write_samples(samples, tmp_path / "data", samples.images)
    search = Search(positive=0, negative=0, jitter=0.2)
    code = (
        "from pathlib import Path; from sam4mllm.data.samples import read_samples\n"
        "from sam4mllm.segmenters.box import BoxSegmenter; from sam4mllm.targets.search import *\n"
        f"found = make_targets(read_samples(Path({str(tmp_path / 'data')!r})), BoxSegmenter(), {search})\n"
        "print(*found, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(target) for target in make_targets(samples, BoxSegmenter(), search)]


def test_each_picture_is_read_and_embedded_once_and_one_scene_lives_at_a_time(samples, monkeypatch):
    segmenter, read = Nearest(), []
    monkeypatch.setattr(module, "read_image", lambda path: read.append(path) or read_image(path))
    list(make_targets(samples, segmenter, SEARCH))
    assert read == [samples.images / "0.png", samples.images / "1.png"]
    assert len(segmenter.embedded) == 2
    assert segmenter.most_alive == 1


def test_all_candidates_of_a_mask_are_one_call_and_an_empty_mask_is_none(samples):
    segmenter = Nearest()
    list(make_targets(samples, segmenter, SEARCH))
    assert segmenter.calls == [8] * 5


def test_progress_is_told_of_each_mask_before_its_target_is_there(samples):
    told = []
    seen = [len(told) for _ in make_targets(samples, Nearest(), SEARCH, lambda: told.append(1))]
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_ious_are_those_of_what_a_real_segmenter_draws_again(samples):
    masks = {(sample.id, index): rle.mask for sample in samples for index, rle in enumerate(sample.masks)}
    images = {sample.id: samples.path(sample) for sample in samples}
    found = list(make_targets(samples, GrabCutSegmenter(), replace(SEARCH, least=0.0)))
    assert sum(len(target.prompts) for target in found) == 15
    for target in found:
        drawn = GrabCutSegmenter().embed(read_image(images[target.sample_id])).segment(target.prompts)
        assert target.ious == tuple(iou(each.mask, masks[target.sample_id, target.index]) for each in drawn)
        assert list(target.ious) == sorted(target.ious, reverse=True)


@pytest.mark.parametrize("least", [0.0, 0.6, 0.75, 1.0])
@pytest.mark.parametrize("keep", [1, 4, 9])
def test_the_search_keeps_the_best_that_reach_the_least_iou(samples, keep, least):
    everything = list(make_targets(samples, Nearest(), replace(SEARCH, keep=8, least=0.0)))
    found = list(make_targets(samples, Nearest(), replace(SEARCH, keep=keep, least=least)))
    for target, all_of_it in zip(found, everything, strict=True):
        count = min(keep, sum(score >= least for score in all_of_it.ious))
        assert target.prompts == all_of_it.prompts[:count]
        assert target.ious == all_of_it.ious[:count]
        assert target.ceiling == all_of_it.ceiling == max(all_of_it.ious, default=0.0)


def test_the_filter_above_drops_some_and_not_all(samples):
    found = list(make_targets(samples, Nearest(), replace(SEARCH, keep=8, least=0.75)))
    assert 0 < sum(len(target.prompts) for target in found) < 5 * 8
    dropped = [target for target in found if target.ceiling > 0 and not target.prompts]
    assert all(target.ceiling < 0.75 for target in dropped)


class Sketching(Nearest):
    """Draws in full as `Nearest`; its drafts are told by a rank that is only nearly that of the masks in full."""

    def embed(self, image: Image) -> "SketchingScene":
        return SketchingScene(image.shape[:2], self.calls)


class SketchingScene(NearestScene):
    def draft(self, prompts: Sequence[Prompt]) -> "Sketches":
        return Sketches(self, prompts)


class Sketches:
    def __init__(self, scene: SketchingScene, prompts: Sequence[Prompt]) -> None:
        self.scene, self.prompts = scene, prompts

    def approximate_ious(self, rows: Sequence[int], mask: np.ndarray) -> list[float]:
        """As in full, but the second half of the best four change places with the first."""
        full = [iou(self.scene.drawn(self.prompts[row]), mask) for row in rows]
        order = sorted(range(len(full)), key=lambda one: -full[one])
        swapped = order[2:4] + order[:2] + order[4:]
        return [1 - swapped.index(one) / 100 for one in range(len(full))]

    def masks(self, rows: Sequence[int]) -> list[ScoredMask]:
        return [ScoredMask(self.scene.drawn(self.prompts[row]), 0.5) for row in rows]


def test_twice_as_many_drafts_as_are_kept_are_compared_in_full(samples):
    search = replace(SEARCH, keep=2, least=0.0)
    assert isinstance(Sketching().embed(np.zeros((40, 50, 3), np.uint8)), DraftingScene)
    assert list(make_targets(samples, Sketching(), search)) == list(make_targets(samples, Nearest(), search))
    one = replace(search, keep=1)  # the best is the third draft: two are too few to see it
    pairs = zip(make_targets(samples, Sketching(), one), make_targets(samples, Nearest(), one), strict=True)
    assert any(mine.ious < its.ious for mine, its in pairs)


def test_more_candidates_never_lower_the_ceiling(samples):
    ceilings = np.array(
        [[t.ceiling for t in make_targets(samples, Nearest(), replace(SEARCH, candidates=k))] for k in (1, 2, 4, 8, 16)]
    )
    assert (np.diff(ceilings, axis=0) >= 0).all()
    assert (ceilings[-1] > ceilings[0]).any()


def test_an_empty_mask_has_no_prompts_and_no_ceiling(samples):
    empty = {(target.sample_id, target.index): target for target in make_targets(samples, Nearest(), SEARCH)}["d", 0]
    assert empty == Target("d", 0, (), (), 0.0)


def test_equal_candidates_are_kept_once(samples):
    pixel = Rle.from_mask(fill(Box(7, 7, 8, 8), 40, 50))
    alone = replace(samples, samples=(replace(samples.samples[0], masks=(pixel,)),))
    [target] = make_targets(alone, Nearest(), Search(keep=9))
    assert target == Target("a", 0, (Prompt(Box(7, 7, 8, 8), (Point(7.5, 7.5),)),), (1.0,), 1.0)


def test_a_segmenter_that_takes_no_clicks_searches_among_boxes_only(samples):
    with pytest.raises(UserError, match=r"the segmenter takes boxes only: .* --positive 0 --negative 0$"):
        list(make_targets(samples, BoxSegmenter(), SEARCH))
    found = list(make_targets(samples, BoxSegmenter(), replace(SEARCH, positive=0, negative=0, least=0.0)))
    assert {prompt.points for target in found for prompt in target.prompts} == {()}


def test_a_segmenter_without_points_off_the_object_is_searched_with_those_on_it(samples):
    segmenter = Nearest()
    segmenter.takes = Takes(negative_points=False)
    with pytest.raises(UserError, match=r"takes no points off the object: .* --negative 0$"):
        list(make_targets(samples, segmenter, SEARCH))
    found = make_targets(samples, segmenter, replace(SEARCH, negative=0))
    assert all(point.positive for target in found for prompt in target.prompts for point in prompt.points)


def test_a_picture_that_cannot_be_used_is_one_line_with_its_sample(samples):
    first = samples.samples[0]
    (samples.images / "text.png").write_text("no picture")
    size = {"width": 40, "height": 50, "masks": (Rle.empty(50, 40),)}
    for bad, message in (
        (replace(first, image="gone.png"), f"sample a: no such file: {samples.images}/gone.png"),
        (replace(first, image="text.png"), f"sample a: {samples.images}/text.png is not an image"),
        (replace(first, **size), f"sample a: {samples.images}/0.png is 50 x 40 pixels, but the sample has 40 x 50"),
    ):
        with pytest.raises(UserError) as caught:
            list(make_targets(replace(samples, samples=(samples.samples[3], bad)), Nearest(), SEARCH))
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("candidates", 0),
        ("positive", -1),
        ("negative", -1),
        ("jitter", 0.5),
        ("jitter", -0.1),
        ("jitter", float("nan")),
        ("keep", 0),
        ("least", 1.1),
        ("least", float("nan")),
        ("seed", -1),
        ("deep", 400.0),
        ("lattice", 10**9),
    ],
)
def test_a_search_that_cannot_be_is_refused(name, value):
    with pytest.raises(UserError, match=f"a search's {name} is .*, got {value}"):
        Search(**{name: value})


KEPT = Target("a", 0, (RIGHT, WIDE), (0.9, 0.6), 0.9)


def test_masks_without_a_pixel_are_not_said_to_be_below_the_least_iou():
    lines = report(
        [KEPT, Target("b", 0, (), (), 0.2), Target("c", 0, (), (), 0.0), Target("d", 0, (), (), 0.0)], empty=2
    )
    assert lines.splitlines()[2:] == [
        "1 masks (25.0%) keep none: all candidates are below the least IoU",
        "2 masks (50.0%) have no pixel to redraw",
    ]


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        pytest.param([], "0 masks", id="none"),
        pytest.param(
            [KEPT, replace(KEPT, index=1, ious=(0.7, 0.6), ceiling=0.7), Target("b", 0, (), (), 0.2)],
            "3 masks, the best candidates with a mean IoU of 0.600\n"
            "2 masks keep prompts, the best of each with a mean IoU of 0.800\n"
            "1 masks (33.3%) keep none: all candidates are below the least IoU",
            id="some",
        ),
        pytest.param(
            [Target("b", 0, (), (), 0.25)],
            "1 masks, the best candidates with a mean IoU of 0.250\n"
            "0 masks keep prompts\n"
            "1 masks (100.0%) keep none: all candidates are below the least IoU",
            id="none kept",
        ),
    ],
)
def test_the_report_counts_and_means(targets, text):
    assert report(iter(targets)) == text
