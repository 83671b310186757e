import numpy as np
import pytest

from sam4mllm.geometry.prompts import Frame, is_on_mask
from sam4mllm.language.templates import parse_boxes, parse_label
from sam4mllm.synthetic import Level, draw_split
from tiny_models.lessons import QuestionCounts, _deep, boxes_lessons
from tiny_models.model import ROW

FRAME = Frame.whole(112, 112)
DRAWINGS = [draw_split("train", index, Level(objects=(1, 3))) for index in range(20)]


def rng():
    return np.random.default_rng(0)


def flat(drawing, names, there, kinds=0):
    """All turns of a scene's conversations, one after another."""
    return [
        turn
        for turns in boxes_lessons(drawing, QuestionCounts(names, there, kinds, 99, 0.0), ROW, rng())
        for turn in turns
    ]


@pytest.mark.parametrize("drawing", DRAWINGS[:5])
def test_replies_contain_the_boxes_of_the_scene_and_no_points(drawing):
    turns = flat(drawing, 0, 0)
    assert len(turns) == 2 * len(drawing.expressions)
    for expression in drawing.expressions:
        [at] = [i for i, turn in enumerate(turns[::2]) if f'"{expression.text}"' in turn.text]
        found = parse_boxes(turns[2 * at + 1].text, ROW, FRAME)
        assert found.readable
        truth = {drawing.figures[index].seen_box for index in expression.targets}
        assert {prompt.box for prompt in found.prompts} == truth
        assert "inside" not in turns[2 * at + 1].text


def test_names_are_of_what_lies_there():
    kinds = set()
    for drawing in DRAWINGS:
        turns = flat(drawing, 4, 0)
        for asked, said in zip(turns[::2], turns[1::2], strict=True):
            if asked.text.startswith("What is at"):
                [place] = ROW.places(asked.text, FRAME)
                names = {
                    f"{figure.size} {figure.colour} {figure.shape}"
                    for figure in drawing.figures
                    if is_on_mask(figure.mask, place.value.x, place.value.y)
                }
                assert said.text in (names or {"ground"})
                kinds.add(said.text == "ground")
    assert kinds == {True, False}


def test_a_longer_conversation_has_the_turns_of_another():
    short = boxes_lessons(DRAWINGS[0], QuestionCounts(2, 1, 1, 99, 0.0), ROW, rng())
    long = boxes_lessons(DRAWINGS[0], QuestionCounts(2, 1, 1, 99, 1.0), ROW, rng())
    assert [turns[:2] for turns in long] == short
    assert sorted(str(turns[2:]) for turns in long) == sorted(map(str, short))
    assert boxes_lessons(DRAWINGS[0], QuestionCounts(2, 1, 1, 3, 0.0), ROW, rng()) == short[:3]


def test_existing_figures_are_answered_with_yes():
    said = {}
    for drawing in DRAWINGS:
        turns = flat(drawing, 0, 99)
        there = {expression.text: bool(expression.targets) for expression in drawing.expressions}
        for asked, answer in zip(turns[::2], turns[1::2], strict=True):
            if asked.text.startswith("Is there"):
                assert there[asked.text.split('"')[1]] is parse_label(answer.text)
                said[answer.text] = True
    assert set(said) == {"Yes", "No"}


def test_a_kind_is_at_a_place_where_the_figure_there_is_of_it():
    right = {"Yes": [], "No": []}
    for drawing in DRAWINGS:
        turns = flat(drawing, 0, 0, kinds=8)
        for asked, answer in zip(turns[::2], turns[1::2], strict=True):
            if " at <" not in asked.text:
                continue
            [place] = ROW.places(asked.text, FRAME)
            words = asked.text.split('"the ')[1].split(" at <")[0].split()
            there = [figure for figure in drawing.figures if is_on_mask(figure.mask, place.value.x, place.value.y)]
            fits = any(all(word in (one.colour, one.shape, "shape") for word in words) for one in there)
            right[answer.text].append(fits == (answer.text == "Yes"))
    assert all(len(each) >= 20 for each in right.values())
    assert all(all(each) for each in right.values())


def test_places_lie_deep():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:16, 5:16] = True
    source = rng()
    points = [_deep(mask, source) for _ in range(300)]
    assert all(is_on_mask(mask, point.x, point.y) for point in points)
    assert np.mean([8 < point.x < 13 and 8 < point.y < 13 for point in points]) > 1.5 * 25 / 121
