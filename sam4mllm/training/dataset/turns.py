"""Conversations to learn from: for each way of prompting, what is asked of an expression and what should be said.

The same `dialogue` functions that strategies call at inference are called here. Objects are told from left to right.
Knows nothing of models, samples and files.

    >>> box_turns("the cat", [Prompt(Box(10, 20, 30, 40))], dialect("sam4mllm"), Frame.whole(100, 100))
    [Turn(role='user', text='Where is "the cat" ...'), Turn(role='assistant', text='[100,200,300,400]')]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam4mllm.language.dialects import Dialect
from sam4mllm.language.templates import (
    ask_boxes,
    ask_point,
    ask_points,
    ask_prompts,
    say_boxes,
    say_label,
    say_labels,
    say_prompts,
)
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.mllm import Turn


def box_turns(phrase: str, prompts: Sequence[Prompt], dialect: Dialect, frame: Frame) -> list[Turn]:
    """The boxes alone; "none" for no prompts."""
    boxes = [prompt.box for prompt in _in_order(prompts)]
    return _turns(ask_boxes(phrase, dialect), say_boxes(boxes, phrase, dialect, frame))


def ppg_turns(
    phrase: str, prompts: Sequence[Prompt], positive: int, negative: int, dialect: Dialect, frame: Frame
) -> list[Turn]:
    """PPG: boxes and points in one reply; ``positive`` and ``negative`` are the numbers that are asked for.

    Points, too, are told from left to right, on it or off it: they are a set, and one order of it is easier to learn
    than any; an order by side would tell the side before the place is said.
    """
    ordered = [Prompt(prompt.box, tuple(sorted(prompt.points, key=_place))) for prompt in _in_order(prompts)]
    said = say_prompts(ordered, phrase, dialect, frame)
    return _turns(ask_prompts(phrase, positive, negative, dialect), said)


def pqpp_turns(
    phrase: str, objects: Sequence[Prompt], dialect: Dialect, frame: Frame, rng: np.random.Generator
) -> list[Turn]:
    """PQPP: the boxes, then yes or no about each of the objects' points, one a turn, in random order.

    Args:
        phrase: the referring expression.
        objects: boxes with the points to ask about, labelled by their sign.
        dialect: of the model.
        frame: how it sees the picture.
        rng: shuffles the points, so that every one of them may come first after the box.
    """
    which: list[tuple[Point, Box | None]] = [
        (point, one.box if len(objects) > 1 else None) for one in objects for point in one.points
    ]
    turns = box_turns(phrase, objects, dialect, frame)
    for index in rng.permutation(len(which)):
        point, box = which[index]
        turns += _turns(ask_point(point, phrase, dialect, frame, box), say_label(point.positive))
    return turns


def listed_turns(phrase: str, objects: Sequence[Prompt], dialect: Dialect, frame: Frame) -> list[Turn]:
    """PQPP as the paper asks: the boxes, then yes or no about all points of an object in one turn, in their order.

    Objects are asked about from left to right, as their boxes were told; one without points is not asked about.
    """
    turns = box_turns(phrase, objects, dialect, frame)
    for one in _in_order(objects):
        if one.points:
            asked = ask_points(one.points, phrase, dialect, frame, one.box if len(objects) > 1 else None)
            turns += _turns(asked, say_labels([point.positive for point in one.points]))
    return turns


def _turns(asked: str, said: str) -> list[Turn]:
    return [Turn("user", asked), Turn("assistant", said)]


def _place(point: Point) -> tuple[float, float]:
    return point.x, point.y


def _in_order(prompts: Sequence[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: prompt.box.xyxy)
