import numpy as np
import pytest

from sam4mllm.geometry.prompts import Frame, is_on_mask
from sam4mllm.language.templates import parse_boxes, parse_label
from sam4mllm.synthetic import Level, draw_split
from tiny_models.lessons import QuestionCounts, _deep, boxes_lessons
from tiny_models.model import ROW

FRAME = Frame.unscaled(112, 112)
DRAWINGS = [draw_split("train", index, Level(objects=(1, 3))) for index in range(20)]


def lessons(drawing, *counts):
    return boxes_lessons(drawing, QuestionCounts(*counts), ROW, np.random.default_rng(0))


def questions(drawing, *counts):
    """All questions of a scene with their replies, as texts."""
    turns = [turn.text for conversation in lessons(drawing, *counts, 99, 0.0) for turn in conversation]
    return list(zip(turns[::2], turns[1::2], strict=True))


def figures_at(drawing, question):
    """The figures at the place in a question."""
    [place] = ROW.places(question, FRAME)
    return [figure for figure in drawing.figures if is_on_mask(figure.mask, place.value.x, place.value.y)]


@pytest.mark.parametrize("drawing", DRAWINGS[:5])
def test_replies_contain_the_boxes_of_the_scene_and_no_points(drawing):
    pairs = questions(drawing, 0, 0, 0)
    assert len(pairs) == len(drawing.expressions)
    for expression in drawing.expressions:
        [reply] = [reply for question, reply in pairs if f'"{expression.text}"' in question]
        parsed = parse_boxes(reply, ROW, FRAME)
        assert parsed.readable
        boxes = {drawing.figures[index].seen_box for index in expression.targets}
        assert {prompt.box for prompt in parsed.prompts} == boxes
        assert "inside" not in reply


def test_a_name_is_that_of_the_figure_at_the_place():
    is_ground = set()
    for drawing in DRAWINGS:
        for question, reply in questions(drawing, 4, 0, 0):
            if question.startswith("What is at"):
                names = {f"{f.size} {f.colour} {f.shape}" for f in figures_at(drawing, question)}
                assert reply in (names or {"ground"})
                is_ground.add(reply == "ground")
    assert is_ground == {True, False}


def test_a_longer_conversation_has_the_turns_of_another():
    short = lessons(DRAWINGS[0], 2, 1, 1, 99, 0.0)
    long = lessons(DRAWINGS[0], 2, 1, 1, 99, 1.0)
    assert [turns[:2] for turns in long] == short
    assert sorted(str(turns[2:]) for turns in long) == sorted(map(str, short))
    assert lessons(DRAWINGS[0], 2, 1, 1, 3, 0.0) == short[:3]


def test_a_question_for_an_expression_has_a_yes_if_it_has_a_target():
    replies = set()
    for drawing in DRAWINGS:
        has_target = {expression.text: bool(expression.targets) for expression in drawing.expressions}
        for question, reply in questions(drawing, 0, 99, 0):
            if question.startswith("Is there"):
                assert has_target[question.split('"')[1]] is parse_label(reply)
                replies.add(reply)
    assert replies == {"Yes", "No"}


def test_a_question_for_a_kind_at_a_place_has_a_yes_if_the_figure_there_is_of_that_kind():
    replies = []
    for drawing in DRAWINGS:
        for question, reply in questions(drawing, 0, 0, 8):
            if " at <" in question:
                kind = set(question.split('"the ')[1].split(" at <")[0].split())
                is_right = any(kind <= {f.colour, f.shape, "shape"} for f in figures_at(drawing, question))
                assert parse_label(reply) is is_right
                replies.append(reply)
    assert min(replies.count("Yes"), replies.count("No")) >= 20


def test_deep_points_are_far_from_the_edge():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:16, 5:16] = True
    rng = np.random.default_rng(0)
    points = [_deep(mask, rng) for _ in range(300)]
    assert all(is_on_mask(mask, point.x, point.y) for point in points)
    assert np.mean([8 < point.x < 13 and 8 < point.y < 13 for point in points]) > 1.5 * 25 / 121
