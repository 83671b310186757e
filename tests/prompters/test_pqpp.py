import re

import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import say_boxes, say_labels
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.pqpp import PQPP, verified

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT, DOG = Box(8.0, 6.0, 40.0, 30.0), Box(44.0, 6.0, 72.0, 54.0)
ROW = dialect("sam4mllm")


def says(*boxes: Box) -> str:
    return say_boxes(boxes, "pet", ROW, Frame.whole(80, 60)) if boxes else ROW.none


def left_half_is_on(key, image, turns, question, options):
    """Sure of everything: points of the picture's left half are on the object."""
    x = int(re.findall(r"\((\d+),", question)[0]) / 1000 * 80
    return [1.0, 0.0] if x < 24 else [0.0, 1.0]


def test_points_take_the_sign_of_the_sure_answer():
    mllm = ScriptedMLLM(lambda key, image, turns: says(CAT), left_half_is_on)
    [found] = PQPP(mllm, points=16)([Query(IMAGE, "cat")])
    points = found.prompts[0].points
    assert len(points) == len(found.asked) == 16
    assert all(point.positive == (point.x < 24) for point in points)


@pytest.mark.parametrize(
    ("yes", "kept"),
    [(0.76, True), (0.75, None), (0.5, None), (0.1, None), (0.099, False), (0.0, False)],
)
def test_only_a_sure_point_is_kept(yes, kept):
    mllm = ScriptedMLLM(lambda key, image, turns: says(CAT), lambda *_: [yes, 1 - yes])
    [found] = PQPP(mllm, points=1)([Query(IMAGE, "cat")])
    assert [point.positive for point in found.prompts[0].points] == ([] if kept is None else [kept])
    assert found.asked[0].yes == pytest.approx(yes)


def test_no_sure_point_leaves_the_box_alone():
    mllm = ScriptedMLLM(lambda key, image, turns: says(CAT), lambda *_: [0.5, 0.5])
    [found] = PQPP(mllm)([Query(IMAGE, "cat")])
    assert found.prompts[0].points == ()
    assert np.allclose(found.prompts[0].box.xyxy, CAT.xyxy, atol=0.1)


def test_nothing_there_is_not_asked_about():
    def fail(*_):
        raise AssertionError("asked about a point of nothing")

    [found] = PQPP(ScriptedMLLM(lambda key, image, turns: says(), fail))([Query(IMAGE, "cat")])
    assert (found.prompts, found.asked, found.readable) == ((), (), True)


@pytest.mark.parametrize("ask", ["one", "list"])
def test_a_ragged_batch_asks_each_picture_about_its_own_objects(ask):
    objects = {"two": (CAT, DOG), "none": (), "one": (DOG,)}

    def answer(key, image, turns):
        return says(*objects[key]) if len(turns) == 1 else say_labels([True, False, True, False])

    mllm = ScriptedMLLM(answer, lambda *_: [1.0, 0.0])
    found = PQPP(mllm, points=4, ask=ask)([Query(IMAGE, "pet", key) for key in objects])
    assert [[asked.object for asked in one.asked] for one in found] == [[0] * 4 + [1] * 4, [], [0] * 4]
    assert [len(one.prompts) for one in found] == [2, 0, 1]
    signs = [point.positive for point in found[2].prompts[0].points]
    assert signs == ([True] * 4 if ask == "one" else [True, False, True, False])


def test_several_objects_are_told_apart_in_the_question():
    heard = []
    mllm = ScriptedMLLM(
        lambda key, image, turns: says(CAT, DOG),
        lambda key, image, turns, question, options: heard.append(question) or [1.0, 0.0],
    )
    PQPP(mllm, points=1)([Query(IMAGE, "pet")])
    boxes = [ROW.write_box(box, Frame.whole(80, 60)) for box in (CAT, DOG)]
    assert [box in question for box, question in zip(boxes, heard, strict=True)] == [True, True]


def test_an_unreadable_list_is_counted_and_leaves_the_box():
    mllm = ScriptedMLLM(lambda key, image, turns: says(CAT) if len(turns) == 1 else "¿?")
    [found] = PQPP(mllm, ask="list")([Query(IMAGE, "cat")])
    assert not found.readable
    assert len(found.prompts) == 1
    assert found.prompts[0].points == ()
    assert len(found.replies) == 2


@pytest.mark.parametrize(
    "options",
    [{"layout": "spiral"}, {"ask": "twice"}, {"points": 5}, {"points": 0}, {"sure_yes": 0.4}, {"sure_no": 1.1}],
    ids=str,
)
def test_an_impossible_setting_is_refused(options):
    with pytest.raises(UserError):
        PQPP(ScriptedMLLM(lambda key, image, turns: ""), **options)


@pytest.mark.parametrize("layout", ["low-discrepancy", "interior"])
def test_every_layout_lays_its_points_inside_the_box(layout):
    mllm = ScriptedMLLM(lambda key, image, turns: says(DOG), lambda *_: [1.0, 0.0])
    [found] = PQPP(mllm, layout=layout, points=7)([Query(IMAGE, "dog")])
    assert len(found.asked) == 7
    assert all(43.9 <= asked.x <= 72.1 and 5.9 <= asked.y <= 54.1 for asked in found.asked)


@pytest.mark.parametrize(("yes", "kept"), [(0.51, True), (0.5, None), (0.49, False)])
def test_verified_points_take_the_likelier_sign_and_lie_in_the_boxs_inner_half(yes, kept):
    mllm = ScriptedMLLM(lambda key, image, turns: says(CAT), lambda *_: [yes, 1 - yes])
    [found] = verified(mllm, points=5)([Query(IMAGE, "cat")])
    assert [point.positive for point in found.prompts[0].points] == ([] if kept is None else [kept] * 5)
    assert len(found.asked) == 5
    assert all(15.9 < asked.x < 32.1 and 11.9 < asked.y < 24.1 for asked in found.asked)
