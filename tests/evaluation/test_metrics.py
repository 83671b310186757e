import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.counts import CountColumns, GroundTruth, PixelCounts, count, count_all
from sam4mllm.evaluation.metrics import PROFILES, gsva, lavt, lisa, profile_for, profile_named, rela
from sam4mllm.geometry.rle import Rle, union

triples = st.tuples(*[hnp.arrays(bool, (6, 7))] * 3)
counts = st.builds(
    lambda both, ground_truth, prediction: PixelCounts(
        both, ground_truth + prediction + both, ground_truth + both, prediction + both
    ),
    *[st.integers(0, 50)] * 3,
)

HALF = PixelCounts(intersection=30, union=60, ground_truth=40, prediction=50)
WHOLE = PixelCounts(40, 40, 40, 40)
MISSED = PixelCounts(0, 40, 40, 0)
SILENT = PixelCounts(0, 0, 0, 0)  # no target, empty prediction
INVENTED = PixelCounts(0, 25, 0, 25)


@given(triples)
def test_counts_match_numpy(arrays):
    ground_truth, prediction, ignore = arrays
    encoded = [Rle.from_mask(mask) for mask in arrays]
    for kept, given_ignore in ((np.ones_like(ignore), None), (~ignore, encoded[2])):
        pixels = [
            mask & kept for mask in (ground_truth & prediction, ground_truth | prediction, ground_truth, prediction)
        ]
        expected = PixelCounts(*(int(np.count_nonzero(mask)) for mask in pixels))
        assert count(encoded[0], encoded[1], given_ignore) == expected


@pytest.mark.parametrize("profile", PROFILES)
@given(rows=st.lists(counts, min_size=1, max_size=8), seed=st.randoms())
def test_metrics_are_in_0_to_1_and_independent_of_sample_order(profile, rows, seed):
    numbers = PROFILES[profile](rows)
    seed.shuffle(rows)
    assert PROFILES[profile](rows) == pytest.approx(numbers, rel=0, abs=0, nan_ok=True)
    assert all(math.isnan(number) or 0 <= number <= 1 for number in numbers.values())


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
def test_metrics_match_values_computed_by_hand(profile, rows, expected):
    numbers = profile(rows)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, nan_ok=True, abs=1e-9)


@given(st.lists(triples, min_size=1, max_size=5))
def test_batched_counts_match_single_counts(many):
    rows = [[Rle.from_mask(mask) for mask in arrays] for arrays in many]
    ground_truths = [
        GroundTruth((ground_truth,), 6, 7, ignore if number % 2 else None)
        for number, (ground_truth, _, ignore) in enumerate(rows)
    ]
    together = count_all(ground_truths, [(prediction.size, prediction.counts) for _, prediction, _ in rows])
    single = [
        count(ground_truth.union, row[1], ground_truth.ignore)
        for ground_truth, row in zip(ground_truths, rows, strict=True)
    ]
    assert together.rows == single
    assert CountColumns.of(single).rows == single


def strip(first, last, size=10):
    """A mask of 10 x 10 pixels: columns ``first`` to ``last``, exclusive."""
    return Rle.from_runs([first * size, (last - first) * size, (size - last) * size], size, size)


def score_files(profile, ground_truth, prediction):
    found = PROFILES[profile]
    return found(found.count([ground_truth], [(prediction.size, prediction.counts)]).rows)


OVERLAPPING = GroundTruth((strip(0, 6), strip(4, 10)), 10, 10)  # two columns of ten are both's
APART = GroundTruth((strip(0, 5), strip(5, 10)), 10, 10)
IGNORING = GroundTruth((strip(0, 5),), 10, 10, strip(5, 8))


@pytest.mark.parametrize(
    ("ground_truth", "prediction", "wrong", "right", "expected"),
    [
        pytest.param(OVERLAPPING, strip(0, 10), "gsva", "rela", (0.8, 1.0), id="a perfect mask of overlapping targets"),
        pytest.param(OVERLAPPING, strip(0, 4), "gsva", "rela", (0.5, 0.4), id="what nobody shares weighs more"),
        pytest.param(APART, strip(0, 10), "gsva", "rela", (1.0, 1.0), id="no overlap, no difference"),
        pytest.param(IGNORING, strip(0, 5), "bool-ignore", "lisa", (5 / 8, 1.0), id="a perfect mask"),
        pytest.param(IGNORING, strip(0, 8), "bool-ignore", "lisa", (1.0, 1.0), id="one that covers what is ignored"),
        pytest.param(IGNORING, strip(5, 8), "bool-ignore", "lisa", (3 / 8, 0.0), id="one of what is ignored alone"),
    ],
)
@pytest.mark.parametrize("name", ["gIoU", "cIoU"])
def test_comparison_profiles_differ_in_the_documented_direction(name, ground_truth, prediction, wrong, right, expected):
    numbers = score_files(wrong, ground_truth, prediction)[name], score_files(right, ground_truth, prediction)[name]
    assert numbers == pytest.approx(expected, abs=1e-6)


@given(st.lists(hnp.arrays(bool, (5, 6)), min_size=1, max_size=3))
def test_a_perfect_mask_never_scores_higher_under_a_comparison_profile(arrays):
    rles = tuple(Rle.from_mask(mask) for mask in arrays)
    whole = union(rles, 5, 6)
    assert score_files("gsva", GroundTruth(rles, 5, 6), whole)["gIoU"] <= 1
    ignoring = GroundTruth(rles[:1], 5, 6, rles[-1])
    assert (
        score_files("bool-ignore", ignoring, rles[0])["gIoU"] <= score_files("lisa", ignoring, rles[0])["gIoU"] + 1e-4
    )  # its epsilon


def test_identical_targets_are_still_targets():
    twice = GroundTruth((strip(0, 5), strip(0, 5)), 10, 10)
    assert score_files("gsva", twice, strip(0, 0)) == {
        "gIoU": 0,
        "cIoU": 0,
        "N_acc": pytest.approx(math.nan, nan_ok=True),
        "T_acc": 0,
    }


def test_only_comparison_profiles_warn_and_name_the_reference():
    assert {name for name, profile in PROFILES.items() if profile.warning} == {"gsva", "bool-ignore"}
    assert "rela is the reference" in gsva.warning
    assert "lisa is the reference" in profile_named("bool-ignore").warning


def test_an_unknown_profile_names_the_choices():
    with pytest.raises(UserError, match="unknown profile 'res': choose one of lavt, rela, lisa, gsva, bool-ignore"):
        profile_named("res")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_samples_is_an_error(profile):
    with pytest.raises(UserError, match="no samples to score"):
        PROFILES[profile]([])


@pytest.mark.parametrize(
    ("source", "target_counts", "profile"),
    [
        ("refcoco", [1, 1, 1], "lavt"),
        ("", [1], "lavt"),
        ("grefcoco", [1, 0], "rela"),
        ("grefcoco", [1, 2], "rela"),
        ("grefcoco", [0], "rela"),
        ("reasonseg", [1, 1], "lisa"),
        ("reasonseg", [0, 2], "lisa"),
        ("refcoco", [], "lavt"),
    ],
)
def test_the_default_profile_follows_from_the_sources_and_the_numbers_of_targets(source, target_counts, profile):
    mask = Rle.from_mask(np.ones((4, 5), bool))
    samples = [
        Sample(str(row), "a.png", 5, 4, "cup", (mask,) * number, source=source)
        for row, number in enumerate(target_counts)
    ]
    assert profile_for(samples) == profile


def test_reasonseg_mixed_with_another_data_set_is_not_scored_as_reasonseg():
    mask = Rle.from_mask(np.ones((4, 5), bool))
    samples = [Sample(name, "a.png", 5, 4, "cup", (mask,), source=name) for name in ("reasonseg", "refcoco")]
    assert profile_for(samples) == "lavt"
