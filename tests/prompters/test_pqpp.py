import re

import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import format_boxes, format_labels
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.pqpp import PQPP, verified

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT, DOG = Box(8.0, 6.0, 40.0, 30.0), Box(44.0, 6.0, 72.0, 54.0)
ROW = dialect("sam4mllm")


def boxes_reply(*boxes: Box) -> str:
    return format_boxes(boxes, "pet", ROW, Frame.unscaled(80, 60)) if boxes else ROW.none


def left_half_is_on(key, image, turns, question, options):
    """Certain answers: points left of x = 24 are on the object."""
    x = int(re.findall(r"\((\d+),", question)[0]) / 1000 * 80
    return [1.0, 0.0] if x < 24 else [0.0, 1.0]


def test_points_are_labelled_by_certain_answers():
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(CAT), left_half_is_on)
    [prompting] = PQPP(mllm, points=16)([Query(IMAGE, "cat")])
    points = prompting.prompts[0].points
    assert len(points) == len(prompting.point_answers) == 16
    assert all(point.positive == (point.x < 24) for point in points)


@pytest.mark.parametrize(
    ("yes", "label"),
    [(0.76, True), (0.75, None), (0.5, None), (0.1, None), (0.099, False), (0.0, False)],
)
def test_only_certain_points_are_kept(yes, label):
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(CAT), lambda *_: [yes, 1 - yes])
    [prompting] = PQPP(mllm, points=1)([Query(IMAGE, "cat")])
    assert [point.positive for point in prompting.prompts[0].points] == ([] if label is None else [label])
    assert prompting.point_answers[0].yes == pytest.approx(yes)


def test_without_certain_points_the_prompt_is_the_box():
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(CAT), lambda *_: [0.5, 0.5])
    [prompting] = PQPP(mllm)([Query(IMAGE, "cat")])
    assert prompting.prompts[0].points == ()
    assert np.allclose(prompting.prompts[0].box.xyxy, CAT.xyxy, atol=0.1)


def test_no_points_are_classified_if_there_is_no_object():
    def fail(*_):
        raise AssertionError("classified a point without an object")

    [prompting] = PQPP(ScriptedMLLM(lambda key, image, turns: boxes_reply(), fail))([Query(IMAGE, "cat")])
    assert (prompting.prompts, prompting.point_answers, prompting.readable) == ((), (), True)


@pytest.mark.parametrize("ask", ["one", "list"])
def test_each_image_of_a_ragged_batch_is_queried_about_its_own_objects(ask):
    objects = {"two": (CAT, DOG), "none": (), "one": (DOG,)}

    def answer(key, image, turns):
        return boxes_reply(*objects[key]) if len(turns) == 1 else format_labels([True, False, True, False])

    mllm = ScriptedMLLM(answer, lambda *_: [1.0, 0.0])
    promptings = PQPP(mllm, points=4, ask=ask)([Query(IMAGE, "pet", key) for key in objects])
    assert [[answer.object for answer in prompting.point_answers] for prompting in promptings] == [
        [0] * 4 + [1] * 4,
        [],
        [0] * 4,
    ]
    assert [len(prompting.prompts) for prompting in promptings] == [2, 0, 1]
    signs = [point.positive for point in promptings[2].prompts[0].points]
    assert signs == ([True] * 4 if ask == "one" else [True, False, True, False])


def test_questions_about_several_objects_contain_the_box():
    questions = []
    mllm = ScriptedMLLM(
        lambda key, image, turns: boxes_reply(CAT, DOG),
        lambda key, image, turns, question, options: questions.append(question) or [1.0, 0.0],
    )
    PQPP(mllm, points=1)([Query(IMAGE, "pet")])
    boxes = [ROW.write_box(box, Frame.unscaled(80, 60)) for box in (CAT, DOG)]
    assert [box in question for box, question in zip(boxes, questions, strict=True)] == [True, True]


def test_an_unreadable_list_is_marked_and_the_prompt_is_the_box():
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(CAT) if len(turns) == 1 else "¿?")
    [prompting] = PQPP(mllm, ask="list")([Query(IMAGE, "cat")])
    assert not prompting.readable
    assert len(prompting.prompts) == 1
    assert prompting.prompts[0].points == ()
    assert len(prompting.replies) == 2


@pytest.mark.parametrize(
    "options",
    [{"layout": "spiral"}, {"ask": "twice"}, {"points": 5}, {"points": 0}, {"sure_yes": 0.4}, {"sure_no": 1.1}],
    ids=str,
)
def test_invalid_options_are_refused(options):
    with pytest.raises(UserError):
        PQPP(ScriptedMLLM(lambda key, image, turns: ""), **options)


@pytest.mark.parametrize("layout", ["low-discrepancy", "interior"])
def test_every_layout_places_its_points_inside_the_box(layout):
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(DOG), lambda *_: [1.0, 0.0])
    [prompting] = PQPP(mllm, layout=layout, points=7)([Query(IMAGE, "dog")])
    assert len(prompting.point_answers) == 7
    assert all(43.9 <= answer.x <= 72.1 and 5.9 <= answer.y <= 54.1 for answer in prompting.point_answers)


@pytest.mark.parametrize(("yes", "label"), [(0.51, True), (0.5, None), (0.49, False)])
def test_verified_points_have_the_more_probable_label_and_are_in_the_inner_half(yes, label):
    mllm = ScriptedMLLM(lambda key, image, turns: boxes_reply(CAT), lambda *_: [yes, 1 - yes])
    [prompting] = verified(mllm, points=5)([Query(IMAGE, "cat")])
    assert [point.positive for point in prompting.prompts[0].points] == ([] if label is None else [label] * 5)
    assert len(prompting.point_answers) == 5
    assert all(15.9 < answer.x < 32.1 and 11.9 < answer.y < 24.1 for answer in prompting.point_answers)
