"""Training examples of one sample: the boxes and the randomly drawn points, and the question and answer turns."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numpy as np

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
    format_boxes,
    format_label,
    format_labels,
    format_prompts,
)
from sam4mllm.training.dataset.corpus import Targets
from sam4mllm.training.dataset.mixture import POINT_QUESTIONS, PointSampling, Rows

CANDIDATES = 60  # Poisson-disk points per box, from which the questions' points are drawn


def choose_prompts(
    kind: str,
    sample: Sample,
    points: int,
    targets: Targets | None,
    rows: Rows,
    dialect: Dialect,
    frame: Frame,
    rng: np.random.Generator,
) -> list[Prompt]:
    """The boxes of a sample, with the points that a kind of conversation needs.

    Args:
        kind: one of `KINDS`, except `TALK`.
        sample: has no empty mask.
        points: points per object for PQPP's questions.
        targets: for PPG; one prompt is drawn per object. If None, random clicks are used.
        rows: the settings of the rows.
        dialect: the model's notation for places.
        frame: the image's frame for the model.
        rng: the random generator.
    """
    if kind == "ppg" and targets is not None:
        choices = [targets[sample.id, index].prompts for index in range(len(sample.masks))]
        return [prompts[rng.integers(len(prompts))] for prompts in choices]
    drawn_prompts = []
    for rle in sample.masks:
        box, labelled = rle.box, tuple[Point, ...]()
        assert box is not None  # the corpus leaves out samples with an empty mask
        if kind == "ppg":
            labelled = clicks(rle.mask, box, rows.positive, rows.negative, rng)
        elif kind in POINT_QUESTIONS:
            labelled = draw_points(rle.mask, box, points, rows.asked, dialect, frame, rng)
        drawn_prompts.append(Prompt(box, labelled))
    return drawn_prompts


def draw_points(
    mask: Mask, box: Box, n: int, settings: PointSampling, dialect: Dialect, frame: Frame, rng: np.random.Generator
) -> tuple[Point, ...]:
    """``n`` points of a box in random order, some of them near the mask's edge, with their labels from the mask.

    Points are rounded to the dialect's grid before they are labelled, because rounding may move them across the edge.
    """
    hard = int(rng.binomial(n, settings.hard))
    near = near_edge(mask, box, hard, settings.near * float(np.hypot(box.width, box.height)), rng)
    # some points of a dense Poisson-disk set; a set of only a few points would crowd the corners
    spread = rng.permutation(poisson_disk(box, max(n - len(near), CANDIDATES), rng))[: n - len(near)]
    places = rng.permutation(np.concatenate([near, spread]))
    return label(np.array([_round_place(x, y, dialect, frame) for x, y in places.tolist()]).reshape(-1, 2), mask)


def make_turns(
    kind: str, phrase: str, prompts: list[Prompt], rows: Rows, dialect: Dialect, frame: Frame, rng: np.random.Generator
) -> list[Turn]:
    """The question and answer turns of one expression, for one of `KINDS` except `TALK`."""
    match kind:
        case "ppg":
            return ppg_turns(phrase, prompts, rows.positive, rows.negative, dialect, frame)
        case "pqpp":
            return pqpp_turns(phrase, prompts, dialect, frame, rng)
        case "listed":
            return listed_turns(phrase, prompts, dialect, frame)
    return box_turns(phrase, prompts, dialect, frame)


def _round_place(x: float, y: float, dialect: Dialect, frame: Frame) -> tuple[float, float]:
    """The place (x, y) in pixels after the dialect has written and read it."""
    [place] = dialect.places(dialect.write_point(Point(x, y), frame), frame)
    assert isinstance(place.value, Point)  # a dialect reads what it writes
    return place.value.x, place.value.y


def box_turns(phrase: str, prompts: Sequence[Prompt], dialect: Dialect, frame: Frame) -> list[Turn]:
    """The question about the boxes and its answer, which is "none" if there are no prompts."""
    boxes = [prompt.extent for prompt in _in_order(prompts)]
    return _turns(ask_boxes(phrase, dialect), format_boxes(boxes, phrase, dialect, frame))


def ppg_turns(
    phrase: str, prompts: Sequence[Prompt], positive: int, negative: int, dialect: Dialect, frame: Frame
) -> list[Turn]:
    """PPG: boxes and points in one reply; ``positive`` and ``negative`` are the requested numbers of points.

    Positive and negative points are sorted together from left to right. They are a set, and a fixed order is easier to
    learn; sorting them by label would reveal the label before the coordinates.
    """
    ordered = [
        Prompt(prompt.extent, tuple(sorted(prompt.points, key=attrgetter("x", "y")))) for prompt in _in_order(prompts)
    ]
    reply = format_prompts(ordered, phrase, dialect, frame)
    return _turns(ask_prompts(phrase, positive, negative, dialect), reply)


def pqpp_turns(
    phrase: str, objects: Sequence[Prompt], dialect: Dialect, frame: Frame, rng: np.random.Generator
) -> list[Turn]:
    """PQPP: the boxes, then one yes/no question per point, in random order.

    Args:
        phrase: the referring expression.
        objects: boxes with the labelled points of the questions.
        dialect: the model's notation for places.
        frame: the image's frame for the model.
        rng: shuffles the points, so that any point may be the first after the box.
    """
    questions: list[tuple[Point, Box | None]] = [
        (point, prompt.extent if len(objects) > 1 else None) for prompt in objects for point in prompt.points
    ]
    turns = box_turns(phrase, objects, dialect, frame)
    for index in rng.permutation(len(questions)):
        point, box = questions[index]
        turns += _turns(ask_point(point, phrase, dialect, frame, box), format_label(point.positive))
    return turns


def listed_turns(phrase: str, objects: Sequence[Prompt], dialect: Dialect, frame: Frame) -> list[Turn]:
    """PQPP as in the paper: the boxes, then one question per object about all of its points, in their order.

    Objects come from left to right, in the order of their boxes in the reply; objects without points are skipped.
    """
    turns = box_turns(phrase, objects, dialect, frame)
    for prompt in _in_order(objects):
        if prompt.points:
            question = ask_points(prompt.points, phrase, dialect, frame, prompt.extent if len(objects) > 1 else None)
            turns += _turns(question, format_labels([point.positive for point in prompt.points]))
    return turns


def _turns(question: str, reply: str) -> list[Turn]:
    return [Turn("user", question), Turn("assistant", reply)]


def _in_order(prompts: Sequence[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: prompt.extent.xyxy)
