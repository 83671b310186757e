import numpy as np
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prompters import Prompter, Prompting, Query
from sam4mllm.prompters.oracle import Oracle, ground_truth_prompts

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT = Prompt(Box(8.0, 6.0, 40.0, 30.0), (Point(20.5, 12.5),))
ORACLE = Oracle({"cat": (CAT,), "pets": (CAT, Prompt(Box(0, 0, 5, 5))), "ghost": ()})


def test_the_oracle_is_a_prompter():
    assert isinstance(ORACLE, Prompter)


def test_each_query_gets_the_prompts_of_its_key_in_order():
    promptings = ORACLE([Query(IMAGE, "anything", key) for key in ("pets", "ghost", "cat")])
    assert promptings == [Prompting(ORACLE.prompts[key], oracle=True) for key in ("pets", "ghost", "cat")]


def test_a_query_without_an_object_is_readable_and_has_no_prompts():
    [prompting] = ORACLE([Query(IMAGE, "the ghost", "ghost")])
    assert (prompting.prompts, prompting.readable) == ((), True)


@pytest.mark.parametrize("key", ["dog", ""])
def test_an_unknown_key_is_refused_and_named(key):
    with pytest.raises(UserError, match=f"'{key}'.*the dog"):
        ORACLE([Query(IMAGE, "the dog", key)])


def make_sample(*columns):
    """An image of 10 x 10 pixels with one object in each of the given columns."""
    masks = []
    for column in columns:
        mask = np.zeros((10, 10), dtype=bool)
        mask[2:8, column] = mask[5, :6] = True
        masks.append(Rle.from_mask(mask))
    return Sample(f"s{columns}", "p.png", 10, 10, "it", tuple(masks))


@pytest.mark.parametrize(("positive", "negative"), [(3, 3), (0, 0), (1, 4)])
def test_every_object_has_a_true_prompt_with_correctly_labelled_points(positive, negative):
    samples = [make_sample(1), make_sample(), make_sample(0, 3)]
    prompts = ground_truth_prompts(samples, positive, negative, seed=4)
    assert [len(prompts[sample.id]) for sample in samples] == [1, 0, 2]
    for sample in samples:
        for rle, prompt in zip(sample.masks, prompts[sample.id], strict=True):
            assert prompt.box == rle.box
            assert [point.positive for point in prompt.points] == [True] * positive + [False] * negative
            assert all(rle.mask[int(point.y), int(point.x)] == point.positive for point in prompt.points)
    assert prompts == ground_truth_prompts(samples, positive, negative, seed=4)
    assert (prompts == ground_truth_prompts(samples, positive, negative, seed=5)) == (positive + negative == 0)


def test_promptings_of_an_oracle_are_marked():
    [prompting] = Oracle.of([make_sample(1)], positive=1, negative=0)([Query(IMAGE, "it", "s(1,)")])
    assert prompting.oracle
    assert len(prompting.prompts[0].points) == 1


def test_a_negative_number_of_points_is_refused():
    with pytest.raises(UserError, match="0 or more points and a seed of 0 or more, got positive=-1"):
        ground_truth_prompts([], positive=-1)


def test_no_queries_give_no_promptings():
    assert ORACLE([]) == []
