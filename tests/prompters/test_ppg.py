import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import DIALECTS, dialect
from sam4mllm.language.templates import format_prompts
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.ppg import PPG

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT = Prompt(Box(8.0, 6.0, 40.0, 30.0), (Point(20.5, 12.5), Point(10.5, 8.5, positive=False)))
DOG = Prompt(Box(44.0, 6.0, 72.0, 54.0), (Point(60.5, 30.5),))


def mllm_with_replies(*replies: str, name: str = "sam4mllm") -> ScriptedMLLM:
    """Returns the reply at the index that the query's key gives."""
    return ScriptedMLLM(lambda key, image, turns: replies[int(key)], dialect=dialect(name))


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_boxes_and_points_of_a_reply_become_prompts(name):
    frame = Frame.unscaled(80, 60)
    reply = format_prompts((CAT, DOG), "pets", dialect(name), frame)
    [prompting] = PPG(mllm_with_replies(reply, name=name))([Query(IMAGE, "pets", "0")])
    assert prompting.readable
    assert len(prompting.prompts) == 2
    across, down = dialect(name).cell(frame)
    for prompt, expected in zip(prompting.prompts, (CAT, DOG), strict=True):
        assert np.allclose(prompt.box.xyxy, expected.box.xyxy, atol=max(across, down))
        assert [point.positive for point in prompt.points] == [point.positive for point in expected.points]


@pytest.mark.parametrize(
    ("reply", "readable"),
    [
        pytest.param("none", True, id="none means no object"),
        pytest.param("", False, id="an empty reply is unreadable"),
        pytest.param("I like turtles.", False, id="prose without a box is unreadable"),
        pytest.param("[100,200,300", False, id="half a box is unreadable"),
    ],
)
def test_a_reply_without_a_box_gives_no_prompts(reply, readable):
    [prompting] = PPG(mllm_with_replies(reply))([Query(IMAGE, "cat", "0")])
    assert (prompting.prompts, prompting.readable, prompting.replies[0].text) == ((), readable, reply)


def test_a_batch_keeps_its_order():
    replies = [format_prompts((prompt,), "pet", dialect("sam4mllm"), Frame.unscaled(80, 60)) for prompt in (CAT, DOG)]
    promptings = PPG(mllm_with_replies(*replies))([Query(IMAGE, "dog", "1"), Query(IMAGE, "cat", "0")])
    assert [prompting.prompts[0].box.x0 > 42 for prompting in promptings] == [True, False]


def test_no_queries_give_no_promptings():
    assert PPG(mllm_with_replies())([]) == []


def test_the_question_contains_the_phrase_and_the_numbers_of_points():
    questions = []
    PPG(ScriptedMLLM(lambda key, image, turns: questions.append(turns[-1].text) or "none"), 4, 7)([Query(IMAGE, "cat")])
    assert "cat" in questions[0]
    assert "4" in questions[0]
    assert "7" in questions[0]


def test_a_negative_number_of_points_is_refused():
    with pytest.raises(UserError, match="-1"):
        PPG(mllm_with_replies(), -1)
