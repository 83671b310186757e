import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam4mllm.errors import UserError
from sam4mllm.metrics import PROFILES, Counts, count, lavt, lisa, rela
from sam4mllm.rle import Rle

triples = st.tuples(*[hnp.arrays(bool, (6, 7))] * 3)
counts = st.builds(
    lambda both, truth, prediction: Counts(both, truth + prediction + both, truth + both, prediction + both),
    *[st.integers(0, 50)] * 3,
)

HALF = Counts(intersection=30, union=60, truth=40, prediction=50)
WHOLE = Counts(40, 40, 40, 40)
MISSED = Counts(0, 40, 40, 0)
SILENT = Counts(0, 0, 0, 0)  # nothing there, and nothing said
INVENTED = Counts(0, 25, 0, 25)


@given(triples)
def test_counts_are_those_of_the_pixels(arrays):
    truth, prediction, ignore = arrays
    encoded = [Rle.from_mask(mask) for mask in arrays]
    for kept, given_ignore in ((np.ones_like(ignore), None), (~ignore, encoded[2])):
        pixels = [mask & kept for mask in (truth & prediction, truth | prediction, truth, prediction)]
        expected = Counts(*(int(np.count_nonzero(mask)) for mask in pixels))
        assert count(encoded[0], encoded[1], given_ignore) == expected


@pytest.mark.parametrize("profile", PROFILES)
@given(rows=st.lists(counts, min_size=1, max_size=8), seed=st.randoms())
def test_the_order_of_the_samples_changes_no_digit_and_every_number_is_a_share(profile, rows, seed):
    numbers = PROFILES[profile](rows)
    seed.shuffle(rows)
    assert PROFILES[profile](rows) == pytest.approx(numbers, rel=0, abs=0, nan_ok=True)
    assert all(math.isnan(number) or 0 <= number <= 1 for number in numbers.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_perfect_prediction_has_every_number_at_one(profile):
    numbers = PROFILES[profile]([WHOLE, Counts(7, 7, 7, 7)])
    assert all(number == pytest.approx(1, abs=1e-6) for name, number in numbers.items() if name != "N_acc")


@pytest.mark.parametrize(
    ("profile", "rows", "expected"),
    [
        pytest.param(
            lavt,
            [HALF, WHOLE, MISSED],
            {"cIoU": 0.5, "mIoU": 0.5, "Pr@0.5": 2 / 3, "Pr@0.6": 1 / 3, "Pr@0.9": 1 / 3},
            id="lavt, an IoU of .5 is enough for Pr@.5",
        ),
        pytest.param(lavt, [SILENT], {"cIoU": math.nan, "mIoU": 0.0, "Pr@0.5": 0.0}, id="lavt has no word for nothing"),
        pytest.param(
            rela,
            [HALF, MISSED, SILENT, INVENTED],
            {"gIoU": (0.5 + 0 + 1 + 0) / 4, "cIoU": 30 / 125, "N_acc": 0.5, "T_acc": 0.5, "Pr@0.7": 0.0},
            id="rela, one of each",
        ),
        pytest.param(rela, [WHOLE], {"N_acc": math.nan, "T_acc": 1.0}, id="rela, targets only"),
        pytest.param(
            rela,
            [SILENT],
            {"gIoU": 1.0, "cIoU": math.nan, "N_acc": 1.0, "T_acc": math.nan, "Pr@0.7": math.nan},
            id="rela, no targets",
        ),
        pytest.param(
            rela, [WHOLE, SILENT, INVENTED], {"Pr@0.7": 1.0, "Pr@0.9": 1.0}, id="rela, Pr@K is over targets alone"
        ),
        pytest.param(
            lisa,
            [HALF, SILENT, INVENTED],
            {"gIoU": (30 / 60.00001 + 1 + 0) / 3, "cIoU": 30 / 85},
            id="lisa, an empty union counts as right",
        ),
    ],
)
def test_numbers_by_hand(profile, rows, expected):
    numbers = profile(rows)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_overlapping_instances_are_clipped_before_they_are_counted():
    from sam4mllm.rle import union

    left, all_of_it = Rle.from_runs([0, 8, 8], 4, 4), Rle.from_runs([0, 16], 4, 4)
    assert rela([count(union([left, all_of_it], 4, 4), all_of_it)])["gIoU"] == 1.0


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_to_score_is_an_error(profile):
    with pytest.raises(UserError, match="nothing to score"):
        PROFILES[profile]([])
