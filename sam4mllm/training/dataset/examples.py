"""What is said of one sample in one way: which boxes and points, drawn at random, and the turns that teach them.

Knows nothing of tokens, and of which samples are taught together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Box, Frame, Mask, Point, Prompt
from sam4mllm.geometry.sampling import clicks, label, near_edge, poisson_disk
from sam4mllm.language.messages import Turn
from sam4mllm.language.notation import Dialect
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
from sam4mllm.training.dataset.corpus import Targets
from sam4mllm.training.dataset.mixture import Asking, Rows

LAID = 60  # Poisson-disk points in a box, of which some are asked about


def prompts_of(
    kind: str,
    sample: Sample,
    points: int,
    targets: Targets | None,
    rows: Rows,
    dialect: Dialect,
    frame: Frame,
    rng: np.random.Generator,
) -> list[Prompt]:
    """The boxes of a sample, with the points that one way of asking is about.

    Args:
        kind: the way.
        sample: none of its masks is empty.
        points: how many of each object PQPP asks about.
        targets: for PPG, of which one is drawn for each object; random clicks where None.
        rows: what the rows of the run hold.
        dialect: of the model.
        frame: how it sees the picture.
        rng: draws.
    """
    if kind == "ppg" and targets is not None:
        kept = [targets[sample.id, index].prompts for index in range(len(sample.masks))]
        return [one[rng.integers(len(one))] for one in kept]
    found = []
    for rle in sample.masks:
        box, mask = rle.box, rle.mask
        assert box is not None  # an empty mask: its sample is left out
        match kind:
            case "ppg":
                found.append(Prompt(box, clicks(mask, box, rows.positive, rows.negative, rng)))
            case "pqpp" | "listed":
                found.append(Prompt(box, asked_points(mask, box, points, rows.asked, dialect, frame, rng)))
            case _:
                found.append(Prompt(box))
    return found


def asked_points(
    mask: Mask, box: Box, n: int, asked: Asking, dialect: Dialect, frame: Frame, rng: np.random.Generator
) -> tuple[Point, ...]:
    """``n`` points of a box in random order, some of them near the mask's edge, labelled by the mask.

    A point is labelled where its words say that it is: on a coarse grid that may be across the edge.
    """
    hard = int(rng.binomial(n, asked.hard))
    near = near_edge(mask, box, hard, asked.near * float(np.hypot(box.width, box.height)), rng)
    spread = _spread(box, n - len(near), rng)
    places = rng.permutation(np.concatenate([near, spread]))
    return label(np.array([_written(x, y, dialect, frame) for x, y in places.tolist()]).reshape(-1, 2), mask)


def said(
    kind: str,
    phrase: str,
    prompts: list[Prompt],
    rows: Rows,
    dialect: Dialect,
    frame: Frame,
    rng: np.random.Generator,
) -> list[Turn]:
    """What is asked and answered about one expression, in one way."""
    match kind:
        case "ppg":
            return ppg_turns(phrase, prompts, rows.positive, rows.negative, dialect, frame)
        case "pqpp":
            return pqpp_turns(phrase, prompts, dialect, frame, rng)
        case "listed":
            return listed_turns(phrase, prompts, dialect, frame)
    return box_turns(phrase, prompts, dialect, frame)


def _spread(box: Box, count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 2"]:
    """Some of many points that cover a box evenly: a few alone would keep their distance and lie in its corners."""
    return rng.permutation(poisson_disk(box, max(count, LAID), rng))[:count]


def _written(x: float, y: float, dialect: Dialect, frame: Frame) -> tuple[float, float]:
    """Where a place is once it is written and read."""
    [place] = dialect.places(dialect.write_point(Point(x, y), frame), frame)
    assert isinstance(place.value, Point)  # a dialect reads what it writes
    return place.value.x, place.value.y


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
