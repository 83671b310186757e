from dataclasses import fields

import pytest

from sam4mllm.errors import UserError
from sam4mllm.training.dataset.mixture import KINDS, TALK, Asking, Mixture, Rows


def test_the_ways_are_those_of_the_mixture_and_talks():
    assert (*(field.name for field in fields(Mixture)), TALK) == KINDS


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda: Mixture(0, 0, 0), "one of them is above 0", id="no weight"),
        pytest.param(lambda: Mixture(-1, 2, 0), "weights are 0 or more", id="weight below 0"),
        pytest.param(lambda: Mixture(float("nan")), "weights are 0 or more", id="no number"),
        pytest.param(lambda: Rows(positive=-1), "0 or more points", id="points below 0"),
        pytest.param(lambda: Rows(seed=-1), "a seed of 0 or more", id="seed below 0"),
        pytest.param(lambda: Rows(per_image=0), "1 or more expressions", id="no expressions"),
        pytest.param(lambda: Rows(tokens=0), "1 or more tokens", id="no tokens"),
        pytest.param(lambda: Asking(mean=-1), "asked.mean is 0 or more, got -1", id="mean"),
        pytest.param(lambda: Asking(deviation=float("inf")), "asked.deviation is 0 or more, got inf", id="deviation"),
        pytest.param(lambda: Asking(least=0), "asked.least is 1 or more, got 0", id="least"),
        pytest.param(lambda: Asking(least=5, most=4), "asked.most is 5 or more, as least is, got 4", id="most"),
        pytest.param(lambda: Asking(single=1.1), "asked.single is 0 to 1, got 1.1", id="single"),
        pytest.param(lambda: Asking(hard=-0.1), "asked.hard is 0 to 1, got -0.1", id="hard"),
        pytest.param(lambda: Asking(near=0), "asked.near is above 0, to 1, got 0", id="near"),
    ],
)
def test_rows_that_are_none_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()
