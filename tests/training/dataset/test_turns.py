import numpy as np

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import parse_boxes, parse_label, parse_labels, parse_prompts
from sam4mllm.training.dataset.examples import box_turns, listed_turns, ppg_turns, pqpp_turns

ROW, FRAME = dialect("sam4mllm"), Frame.unscaled(100, 100)
RIGHT = Prompt(Box(60, 20, 90, 80), (Point(70.5, 40.5), Point(62.5, 22.5, positive=False)))
LEFT = Prompt(Box(10, 20, 40, 80), (Point(20.5, 40.5), Point(12.5, 22.5, positive=False)))


def test_the_boxes_are_read_back_from_left_to_right():
    question, reply = box_turns("pets", [RIGHT, LEFT], ROW, FRAME)
    assert "pets" in question.text
    assert [prompt.box for prompt in parse_boxes(reply.text, ROW, FRAME).prompts] == [LEFT.box, RIGHT.box]


def test_the_reply_without_prompts_is_none():
    for _, reply in (box_turns("cat", [], ROW, FRAME), ppg_turns("cat", [], 3, 3, ROW, FRAME)):
        assert reply.text == ROW.none


def test_ppg_replies_contain_the_points_with_their_labels():
    _, reply = ppg_turns("pets", [RIGHT, LEFT], 1, 1, ROW, FRAME)
    prompts = parse_prompts(reply.text, ROW, FRAME).prompts
    assert [[point.positive for point in prompt.points] for prompt in prompts] == [[False, True], [False, True]]


def test_pqpp_asks_about_each_point_once_in_random_order():
    def signs(seed: int) -> list[bool | None]:
        turns = pqpp_turns("pets", [LEFT, RIGHT], ROW, FRAME, np.random.default_rng(seed))
        assert [turn.role for turn in turns] == ["user", "assistant"] * 5
        return [parse_label(turn.text) for turn in turns[3::2]]

    orders = {tuple(signs(seed)) for seed in range(20)}
    assert all(sum(map(bool, order)) == 2 for order in orders)
    assert len(orders) > 1


def test_a_point_question_names_the_box_if_there_are_several_objects():
    turns = pqpp_turns("pets", [LEFT, RIGHT], ROW, FRAME, np.random.default_rng(0))
    boxes = [ROW.write_box(prompt.box, FRAME) for prompt in (LEFT, RIGHT)]
    assert all(any(box in turn.text for box in boxes) for turn in turns[2::2])
    single = pqpp_turns("cat", [LEFT], ROW, FRAME, np.random.default_rng(0))
    assert not any(box in turn.text for box in boxes for turn in single[2::2])


def test_ppg_points_are_sorted_from_left_to_right_regardless_of_their_label():
    points = (Point(30, 5), Point(10, 9, False), Point(20, 7), Point(10, 8), Point(5, 3, False))
    [_, reply] = ppg_turns("it", [Prompt(Box(0, 0, 40, 10), points)], 3, 2, ROW, FRAME)
    [prompt] = parse_prompts(reply.text, ROW, FRAME).prompts
    assert [point.x for point in prompt.points] == [5, 10, 10, 20, 30]
    assert [point.positive for point in prompt.points] == [False, True, False, True, True]


def test_a_listed_question_asks_about_all_points_of_an_object_in_one_turn():
    turns = listed_turns("pets", [RIGHT, LEFT], ROW, FRAME)
    assert turns[:2] == box_turns("pets", [RIGHT, LEFT], ROW, FRAME)
    assert len(turns) == 2 + 2 * 2
    for (question, reply), prompt in zip((turns[2:4], turns[4:]), (LEFT, RIGHT), strict=True):
        assert ROW.write_box(prompt.box, FRAME) in question.text
        positions = [question.text.index(ROW.write_point(point, FRAME)) for point in prompt.points]
        assert positions == sorted(positions)
        assert parse_labels(reply.text, 2) == (True, False)
    assert len(listed_turns("cat", [LEFT, Prompt(RIGHT.box)], ROW, FRAME)) == 4
    assert ROW.write_box(LEFT.box, FRAME) not in listed_turns("cat", [LEFT], ROW, FRAME)[2].text
