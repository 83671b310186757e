import numpy as np

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import format_prompts
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.prompters import Query
from sam4mllm.prompters.box import BoxPrompter

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)


def test_the_points_of_a_reply_are_dropped():
    cat = Prompt(Box(8.0, 6.0, 40.0, 30.0), (Point(20.5, 12.5),))
    reply = format_prompts((cat,), "cat", dialect("sam4mllm"), Frame.unscaled(80, 60))
    [prompting] = BoxPrompter(ScriptedMLLM(lambda key, image, turns: reply))([Query(IMAGE, "cat")])
    assert np.allclose(prompting.prompts[0].box.xyxy, cat.box.xyxy, atol=0.1)
    assert prompting.prompts[0].points == ()


def test_no_queries_give_no_promptings():
    assert BoxPrompter(ScriptedMLLM(lambda key, image, turns: "none"))([]) == []
