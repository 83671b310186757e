import numpy as np
import pytest

from sam4mllm.dialogue import read_boxes, read_label, read_prompts
from sam4mllm.geometry import Frame, on_mask
from sam4mllm.shapes import Level, draw_split
from sam4mllm.tiny.lessons import boxes_lesson, points_lesson
from sam4mllm.tiny.model import ROW

FRAME = Frame.whole(112, 112)
DRAWINGS = [draw_split("train", index, Level(objects=(1, 3))) for index in range(20)]


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("drawing", DRAWINGS[:5])
def test_a_lesson_says_the_boxes_of_its_scene_and_holds_no_points(drawing):
    turns = boxes_lesson(drawing, 0, 0, ROW, rng(), most=99)
    assert len(turns) == 2 * len(drawing.expressions)
    for expression in drawing.expressions:
        [at] = [i for i, turn in enumerate(turns[::2]) if f'"{expression.text}"' in turn.text]
        found = read_boxes(turns[2 * at + 1].text, ROW, FRAME)
        assert found.readable
        truth = {drawing.figures[index].seen_box for index in expression.targets}
        assert {prompt.box for prompt in found.prompts} == truth
        assert "inside" not in turns[2 * at + 1].text


def test_names_are_of_what_lies_there():
    for drawing in DRAWINGS:
        turns = boxes_lesson(drawing, 4, 0, ROW, rng(), most=99)
        for asked, said in zip(turns[::2], turns[1::2], strict=True):
            if asked.text.startswith("What is at"):
                [place] = ROW.places(asked.text, FRAME)
                names = {
                    f"{figure.size} {figure.colour} {figure.shape}"
                    for figure in drawing.figures
                    if any(on_mask(figure.mask, place.value.x + d, place.value.y + e) for d in (-1, 0) for e in (-1, 0))
                }
                assert said.text in names | {"ground"}


def test_a_lesson_is_cut_at_whole_turns():
    assert len(boxes_lesson(DRAWINGS[0], 5, 1, ROW, rng(), most=3)) == 6


def test_ppg_says_three_clicks_on_the_target_and_three_off():
    drawing, expression = next((d, e) for d in DRAWINGS for e in d.expressions if len(e.targets) == 1)
    _, said = points_lesson(drawing, [expression], "ppg", 0, ROW, rng())
    [prompt] = read_prompts(said.text, ROW, FRAME).prompts
    assert [point.positive for point in prompt.points] == [True] * 3 + [False] * 3


def test_pqpp_says_yes_where_the_point_is_on_the_target():
    drawing, expression = next((d, e) for d in DRAWINGS for e in d.expressions if len(e.targets) == 1)
    turns = points_lesson(drawing, [expression], "pqpp", 30, ROW, rng())
    mask = drawing.masks(expression)[0]
    right = 0
    for asked, said in zip(turns[2::2], turns[3::2], strict=True):
        [place] = ROW.places(asked.text, FRAME)
        right += on_mask(mask, place.value.x, place.value.y) == read_label(said.text)
    assert right >= 24  # a place is written to the pixel's edge: at the mask's rim its label may be its neighbour's


def test_no_target_is_taught_by_both():
    drawing, expression = next((d, e) for d in DRAWINGS for e in d.expressions if not e.targets)
    for kind in ("ppg", "pqpp"):
        assert [turn.text for turn in points_lesson(drawing, [expression], kind, 4, ROW, rng())][1:] == ["none"]


def test_what_is_there_is_said_to_be_there():
    said = {}
    for drawing in DRAWINGS:
        turns = boxes_lesson(drawing, 0, 99, ROW, rng(), most=99)
        there = {expression.text: bool(expression.targets) for expression in drawing.expressions}
        for asked, answer in zip(turns[::2], turns[1::2], strict=True):
            if asked.text.startswith("Is there"):
                assert there[asked.text.split('"')[1]] is read_label(answer.text)
                said[answer.text] = True
    assert set(said) == {"Yes", "No"}
