import numpy as np
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prompters import Prompter, Prompting, Query
from sam4mllm.prompters.oracle import Oracle, true_prompts

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT = Prompt(Box(8.0, 6.0, 40.0, 30.0), (Point(20.5, 12.5),))
ORACLE = Oracle({"cat": (CAT,), "pets": (CAT, Prompt(Box(0, 0, 5, 5))), "ghost": ()})


def test_it_is_a_prompter():
    assert isinstance(ORACLE, Prompter)


def test_each_query_gets_the_prompts_of_its_key_in_order():
    found = ORACLE([Query(IMAGE, "anything", key) for key in ("pets", "ghost", "cat")])
    assert found == [Prompting(ORACLE.prompts[key], oracle=True) for key in ("pets", "ghost", "cat")]


def test_nothing_there_is_known_and_readable():
    [found] = ORACLE([Query(IMAGE, "the ghost", "ghost")])
    assert (found.prompts, found.readable) == ((), True)


@pytest.mark.parametrize("key", ["dog", ""])
def test_an_unknown_key_is_refused_by_its_name(key):
    with pytest.raises(UserError, match=f"'{key}'.*the dog"):
        ORACLE([Query(IMAGE, "the dog", key)])


def sample(*columns):
    """On a picture of 10 x 10 pixels, an object in each of the given columns."""
    masks = []
    for column in columns:
        mask = np.zeros((10, 10), dtype=bool)
        mask[2:8, column] = mask[5, :6] = True
        masks.append(Rle.from_mask(mask))
    return Sample(f"s{columns}", "p.png", 10, 10, "it", tuple(masks))


@pytest.mark.parametrize(("positive", "negative"), [(3, 3), (0, 0), (1, 4)])
def test_true_prompts_are_of_every_object_and_lie_where_they_say(positive, negative):
    samples = [sample(1), sample(), sample(0, 3)]
    found = true_prompts(samples, positive, negative, seed=4)
    assert [len(found[one.id]) for one in samples] == [1, 0, 2]
    for one in samples:
        for rle, prompt in zip(one.masks, found[one.id], strict=True):
            assert prompt.box == rle.box
            assert [point.positive for point in prompt.points] == [True] * positive + [False] * negative
            assert all(rle.mask[int(point.y), int(point.x)] == point.positive for point in prompt.points)
    assert found == true_prompts(samples, positive, negative, seed=4)
    assert (found == true_prompts(samples, positive, negative, seed=5)) == (positive + negative == 0)


def test_an_oracle_of_samples_says_that_it_is_one():
    [found] = Oracle.of([sample(1)], positive=1, negative=0)([Query(IMAGE, "it", "s(1,)")])
    assert found.oracle
    assert len(found.prompts[0].points) == 1


def test_fewer_than_no_points_are_refused():
    with pytest.raises(UserError, match="0 or more points and a seed"):
        true_prompts([], positive=-1)


def test_no_queries_are_no_prompts():
    assert ORACLE([]) == []
