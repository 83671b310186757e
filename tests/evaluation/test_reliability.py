import math

import pytest

from sam4mllm.evaluation.reliability import PointLabel, point_labels, reliability
from sam4mllm.geometry.prompts import Box, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction
from sam4mllm.prompters import PointAnswer
from tests.drawing import HEIGHT, WIDTH, filled, sample

LEFT, RIGHT = filled(0, 0, 8, 10), filled(10, 0, 18, 10)
LEFT_BOX, RIGHT_BOX, ELSEWHERE = Prompt(Box(0, 0, 8, 10)), Prompt(Box(10, 0, 18, 10)), Prompt(Box(8, 0, 10, 4))


def point_answers(prompts, *points):
    """A prediction with answers about the points (object, x), all with y = 5.5 and P(yes) = .7."""
    return {
        "x": Prediction(
            "x", prompts, Rle.empty(HEIGHT, WIDTH), point_answers=tuple(PointAnswer(n, x, 5.5, 0.7) for n, x in points)
        )
    }


@pytest.mark.parametrize(
    ("ground_truth", "prompts", "points", "expected"),
    [
        pytest.param(sample("x", LEFT), (LEFT_BOX,), [(0, 2.5), (0, 9.5)], [True, False], id="one"),
        pytest.param(sample("x", LEFT, RIGHT), (LEFT_BOX,), [(0, 12.5)], [True], id="one box for all that is meant"),
        pytest.param(
            sample("x", LEFT, RIGHT),
            (RIGHT_BOX, LEFT_BOX),
            [(0, 12.5), (1, 12.5), (1, 2.5)],
            [True, False, True],
            id="each object its own",
        ),
        pytest.param(sample("x", LEFT), (LEFT_BOX, ELSEWHERE), [(1, 9.5), (1, 2.5)], [False, True], id="no partner"),
        pytest.param(sample("x"), (LEFT_BOX,), [(0, 2.5)], [False], id="nothing is meant"),
        pytest.param(
            sample("x", LEFT, ignore=RIGHT),
            (LEFT_BOX,),
            [(0, 12.5), (0, 2.5)],
            [True],
            id="ignored pixels are left out",
        ),
        pytest.param(sample("x", LEFT), (LEFT_BOX,), [], [], id="no points"),
        pytest.param(sample("x", LEFT), (LEFT_BOX,), [(0, 25.0)], [False], id="off the picture"),
    ],
)
def test_a_point_is_compared_with_the_right_object(ground_truth, prompts, points, expected):
    assert [one.on for one in point_labels([ground_truth], point_answers(prompts, *points))] == expected


def test_the_curve_and_its_error_by_hand():
    answers = [PointLabel(0.9, True), PointLabel(1.0, False), PointLabel(0.2, False), PointLabel(0.5, True)]
    found = reliability(answers, bins=2)
    assert [one.count for one in found.bins] == [1, 3]
    assert [one.yes for one in found.bins] == pytest.approx([0.2, 0.8])
    assert [one.accuracy for one in found.bins] == pytest.approx([1.0, 2 / 3])
    assert found.error == pytest.approx((1 * 0.2 + 3 * abs(2 / 3 - 0.8)) / 4)
    assert "expected calibration error: 15.00 % of 4 points" in found.format_table()


@pytest.mark.parametrize(("right", "error"), [(9, 0.0), (5, 0.4), (0, 0.9)])
def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy(right, error):
    answers = [PointLabel(0.9, number < right) for number in range(10)]
    assert reliability(answers).error == pytest.approx(error)
    assert reliability([PointLabel(1 - one.yes, not one.on) for one in answers]).error == pytest.approx(error)


def test_without_points_the_calibration_error_is_nan():
    found = reliability([])
    assert math.isnan(found.error)
    assert all(math.isnan(one.accuracy) for one in found.bins)
    assert "| 0.0 to 0.1 | 0 | - | - | - |" in found.format_table()
