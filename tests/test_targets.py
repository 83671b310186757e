import numpy as np
import pytest

from sam4mllm.geometry import Box, Point, Prompt, iou
from sam4mllm.segmenter import ScoredMask
from sam4mllm.segmenter.box import BoxSegmenter, fill
from sam4mllm.segmenter.grabcut import GrabCutSegmenter
from sam4mllm.targets import best, candidates

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
