import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Point, Prompt
from sam4mllm.prompters import Prompter, Prompting, Query
from sam4mllm.prompters.oracle import Oracle

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


def test_no_queries_are_no_prompts():
    assert ORACLE([]) == []
