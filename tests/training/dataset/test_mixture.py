from dataclasses import fields

import pytest

from sam4mllm.errors import UserError
from sam4mllm.training.dataset.mixture import KINDS, TALK, Mixture, PointSampling, Rows


def test_the_kinds_are_those_of_the_mixture_and_conversations():
    assert (*(field.name for field in fields(Mixture)), TALK) == KINDS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Mixture(0, 0, 0), "one of them above 0", id="no weight"),
        pytest.param(lambda: Mixture(-1, 2, 0), "must be 0 or more", id="weight below 0"),
        pytest.param(lambda: Mixture(float("nan")), "must be 0 or more", id="no number"),
        pytest.param(lambda: Rows(positive=-1), "must be 0 or more, got positive -1", id="points below 0"),
        pytest.param(lambda: Rows(seed=-1), "must be 0 or more, got .* seed -1", id="seed below 0"),
        pytest.param(lambda: Rows(per_image=0), "must be 1 or more, got per_image 0", id="no expressions"),
        pytest.param(lambda: Rows(tokens=0), "must be 1 or more, got .* tokens 0", id="no tokens"),
        pytest.param(lambda: PointSampling(mean=-1), "asked.mean must be 0 or more, got -1", id="mean"),
        pytest.param(
            lambda: PointSampling(deviation=float("inf")), "asked.deviation must be 0 or more, got inf", id="deviation"
        ),
        pytest.param(lambda: PointSampling(least=0), "asked.least must be 1 or more, got 0", id="least"),
        pytest.param(
            lambda: PointSampling(least=5, most=4), "asked.most must be 5 or more, as least is, got 4", id="most"
        ),
        pytest.param(lambda: PointSampling(single=1.1), "asked.single must be 0 to 1, got 1.1", id="single"),
        pytest.param(lambda: PointSampling(hard=-0.1), "asked.hard must be 0 to 1, got -0.1", id="hard"),
        pytest.param(lambda: PointSampling(near=0), "asked.near must be above 0, to 1, got 0", id="near"),
    ],
)
def test_out_of_range_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
