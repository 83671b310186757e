import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import DIALECTS, dialect
from sam4mllm.language.templates import say_prompts
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.ppg import PPG

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
CAT = Prompt(Box(8.0, 6.0, 40.0, 30.0), (Point(20.5, 12.5), Point(10.5, 8.5, positive=False)))
DOG = Prompt(Box(44.0, 6.0, 72.0, 54.0), (Point(60.5, 30.5),))


def talker(*replies: str, name: str = "sam4mllm") -> ScriptedMLLM:
    """Says the reply whose number is the query's key."""
    return ScriptedMLLM(lambda key, image, turns: replies[int(key)], dialect=dialect(name))


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_what_is_said_is_prompted(name):
    frame = Frame.whole(80, 60)
    said = say_prompts((CAT, DOG), "pets", dialect(name), frame)
    [found] = PPG(talker(said, name=name))([Query(IMAGE, "pets", "0")])
    assert found.readable
    assert len(found.prompts) == 2
    across, down = dialect(name).cell(frame)
    for got, meant in zip(found.prompts, (CAT, DOG), strict=True):
        assert np.allclose(got.box.xyxy, meant.box.xyxy, atol=max(across, down))
        assert [point.positive for point in got.points] == [point.positive for point in meant.points]


@pytest.mark.parametrize(
    ("reply", "readable"),
    [
        pytest.param("none", True, id="none means nothing there"),
        pytest.param("", False, id="an empty reply is lost"),
        pytest.param("I like turtles.", False, id="prose without a place is lost"),
        pytest.param("[100,200,300", False, id="half a box is lost"),
    ],
)
def test_a_reply_without_a_box_prompts_nothing_and_says_why(reply, readable):
    [found] = PPG(talker(reply))([Query(IMAGE, "cat", "0")])
    assert (found.prompts, found.readable, found.replies[0].text) == ((), readable, reply)


def test_a_batch_keeps_its_order():
    said = [say_prompts((one,), "pet", dialect("sam4mllm"), Frame.whole(80, 60)) for one in (CAT, DOG)]
    found = PPG(talker(*said))([Query(IMAGE, "dog", "1"), Query(IMAGE, "cat", "0")])
    assert [prompting.prompts[0].box.x0 > 42 for prompting in found] == [True, False]


def test_no_queries_ask_nothing():
    assert PPG(talker())([]) == []


def test_the_question_names_the_phrase_and_the_points():
    heard = []
    PPG(ScriptedMLLM(lambda key, image, turns: heard.append(turns[-1].text) or "none"), 4, 7)([Query(IMAGE, "cat")])
    assert "cat" in heard[0]
    assert "4" in heard[0]
    assert "7" in heard[0]


def test_a_negative_number_of_points_is_refused():
    with pytest.raises(UserError, match="-1"):
        PPG(talker(), -1)
