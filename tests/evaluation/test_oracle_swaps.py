import pytest

from sam4mllm.evaluation.oracle_swaps import STATES, changed_stages, ground_truth_objects, match_boxes, oracle_states
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Reply
from sam4mllm.prediction.record import Prediction
from tests.drawing import HEIGHT, WIDTH, filled, sample

LEFT, RIGHT = filled(0, 0, 8, 10), filled(10, 2, 18, 8)
ONE, TWO, NONE = sample("one", LEFT), sample("two", LEFT, RIGHT), sample("none")
ON, OFF = Point(2.5, 2.5), Point(9.5, 2.5, positive=False)
WRONG = (Point(2.5, 2.5, positive=False), Point(9.5, 2.5))


def said(*prompts, readable=True, error=None):
    return Prediction("x", prompts, Rle.empty(HEIGHT, WIDTH), (Reply("", True),), readable, error=error)


def boxes(*edges):
    return tuple(Prompt(Box(*one)) for one in edges)


TRUE_LEFT, TRUE_RIGHT = boxes((0, 0, 8, 10), (10, 2, 18, 8))
LOOSE = Prompt(Box(0, 0, 10, 10), WRONG)
ELSEWHERE = Prompt(Box(12, 0, 20, 10), (ON,))


@pytest.mark.parametrize(
    ("ground_truth", "prediction", "stages", "last"),
    [
        pytest.param(ONE, said(TRUE_LEFT), [], (TRUE_LEFT,), id="all right"),
        pytest.param(ONE, said(readable=False), ["unreadable"], (TRUE_LEFT,), id="unreadable"),
        pytest.param(ONE, said(), ["false none"], (TRUE_LEFT,), id="false none"),
        pytest.param(TWO, said(), ["false none"], (TRUE_LEFT, TRUE_RIGHT), id="false none of two"),
        pytest.param(NONE, said(), [], (), id="a true none"),
        pytest.param(NONE, said(readable=False), [], (), id="unreadable about nothing"),
        pytest.param(NONE, said(LOOSE), ["missed none"], (), id="missed none"),
        pytest.param(ONE, said(ELSEWHERE), ["wrong instance"], (TRUE_LEFT,), id="elsewhere, its points go"),
        pytest.param(TWO, said(TRUE_RIGHT), ["wrong instance"], (TRUE_LEFT, TRUE_RIGHT), id="one of two"),
        pytest.param(ONE, said(TRUE_LEFT, TRUE_RIGHT), ["wrong instance"], (TRUE_LEFT,), id="one too many"),
        pytest.param(TWO, said(TRUE_RIGHT, TRUE_LEFT), [], (TRUE_LEFT, TRUE_RIGHT), id="in another order"),
        pytest.param(
            ONE,
            said(LOOSE),
            ["loose box", "point labels"],
            (Prompt(TRUE_LEFT.box, (ON, OFF)),),
            id="loose, mislabelled",
        ),
        pytest.param(
            ONE, said(Prompt(TRUE_LEFT.box, (ON,)), readable=False), [], (Prompt(TRUE_LEFT.box, (ON,)),), id="half read"
        ),
        pytest.param(ONE, said(error="no such file"), ["failed"], None, id="failed"),
    ],
)
def test_each_stage_corrects_one_error_and_the_last_state_is_the_ground_truth(ground_truth, prediction, stages, last):
    assert changed_stages(ground_truth, prediction) == stages
    if last is not None:
        states = oracle_states(ground_truth, prediction)
        assert len(states) == len(STATES)
        assert states[0] == prediction.prompts
        assert states[-1] == last


def test_point_labels_follow_the_object_of_their_box():
    prompts = Prompt(TRUE_LEFT.box, (Point(12.5, 5.5),)), Prompt(TRUE_RIGHT.box, (Point(12.5, 5.5, positive=False),))
    left, right = oracle_states(TWO, said(*prompts))[-1]
    assert [left.points[0].positive, right.points[0].positive] == [False, True]


def test_a_point_on_an_ignored_pixel_keeps_its_label_and_one_outside_the_image_is_negative():
    ground_truth = sample("one", LEFT, ignore=filled(8, 0, 20, 10))
    [prompt] = oracle_states(ground_truth, said(Prompt(TRUE_LEFT.box, (*WRONG, Point(-3.0, 2.0)))))[-1]
    assert [point.positive for point in prompt.points] == [True, True, False]


@pytest.mark.parametrize(
    ("first", "true", "expected"),
    [
        pytest.param([], [], {}, id="nothing"),
        pytest.param([(0, 0, 10, 10)], [(0, 0, 20, 10)], {0: 0}, id="one half"),
        pytest.param([(0, 0, 10, 10)], [(0, 0, 20.1, 10)], {}, id="just below"),
        pytest.param([(0, 0, 9, 10), (0, 0, 10, 10)], [(0, 0, 10, 10)], {0: 1}, id="the better of two"),
        pytest.param([(0, 0, 10, 10)], [(0, 0, 9, 10), (0, 0, 10, 10)], {1: 0}, id="the nearer of two"),
        pytest.param([(0, 0, 10, 10)] * 2, [(0, 0, 10, 10)] * 2, {0: 0, 1: 1}, id="equals in order"),
        pytest.param([(0, 0, 0, 0)], [(0, 0, 5, 5)], {}, id="a box without extent"),
    ],
)
def test_boxes_are_matched_one_to_one_by_descending_iou(first, true, expected):
    assert match_boxes([Box(*one) for one in first], [Box(*one) for one in true]) == expected


def test_an_empty_mask_is_not_an_object():
    assert [one.box for one in ground_truth_objects(sample("x", Rle.empty(HEIGHT, WIDTH), LEFT))] == [Box(0, 0, 8, 10)]
    assert changed_stages(sample("x", Rle.empty(HEIGHT, WIDTH)), said()) == []
