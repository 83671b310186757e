"""What the tiny MLLM is taught on scenes: conversations about all that is said of a scene, and what is at a place.

Knows nothing of models and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam4mllm.dialects import Dialect
from sam4mllm.dialogue import say_label
from sam4mllm.geometry import Box, Frame, Mask, Point, Prompt
from sam4mllm.mllm import Turn
from sam4mllm.sampling import clicks, label, poisson_disk
from sam4mllm.shapes import Drawing, Expression
from sam4mllm.turns import box_turns, ppg_turns, pqpp_turns


def ask_name(point: Point, dialect: Dialect, frame: Frame) -> str:
    """Ask what is at a place: the base's other skill, which shows whether a later lesson made it forget."""
    return f"What is at {dialect.write_point(point, frame)}?"


def ask_there(phrase: str) -> str:
    """Ask whether a scene holds what a phrase means: the base's third skill, by which it knows yes and no."""
    return f'Is there "{phrase}"?'


def boxes_lesson(
    drawing: Drawing, names: int, there: int, dialect: Dialect, rng: np.random.Generator, most: int = 12
) -> list[Turn]:
    """Boxes of every expression of a scene, names at some places and whether some are there, in random order.

    No question is about points of an object.
    """
    frame = _frame(drawing)
    parts = [
        box_turns(expression.text, _prompts(drawing, expression), dialect, frame) for expression in drawing.expressions
    ]
    parts += [_naming(drawing, dialect, frame, rng) for _ in range(names)]
    for index in rng.permutation(len(drawing.expressions))[:there]:
        expression = drawing.expressions[index]
        parts.append([Turn("user", ask_there(expression.text)), Turn("assistant", say_label(bool(expression.targets)))])
    chosen = rng.permutation(len(parts))[:most]
    return [turn for index in chosen for turn in parts[index]]


def points_lesson(
    drawing: Drawing,
    expressions: Sequence[Expression],
    kind: str,
    asked: int,
    dialect: Dialect,
    rng: np.random.Generator,
) -> list[Turn]:
    """PPG or PQPP turns for some expressions of a scene, one after the other.

    Args:
        drawing: the scene.
        expressions: which of its expressions.
        kind: ``ppg`` for three clicks on and three off each target, ``pqpp`` for questions about points in its box.
        asked: how many points are asked about in each box, for ``pqpp``.
        dialect: of the model.
        rng: where points come from.
    """
    frame, turns = _frame(drawing), list[Turn]()
    for expression in expressions:
        if kind == "ppg":
            prompts = _prompts(drawing, expression, rng)
            turns += ppg_turns(expression.text, prompts, 3, 3, dialect, frame)
        else:
            objects = [
                Prompt(prompt.box, label(poisson_disk(prompt.box, asked, rng), mask))
                for prompt, mask in zip(_prompts(drawing, expression), drawing.masks(expression), strict=True)
            ]
            turns += pqpp_turns(expression.text, objects, dialect, frame, rng)
    return turns


def _frame(drawing: Drawing) -> Frame:
    height, width, _ = drawing.image.shape
    return Frame.whole(width, height)


def _prompts(drawing: Drawing, expression: Expression, rng: np.random.Generator | None = None) -> list[Prompt]:
    """The targets' boxes, each with three clicks on it and three off where ``rng`` is given."""
    return [
        Prompt(drawing.figures[index].seen_box, _clicks(drawing, index, rng) if rng else ())
        for index in expression.targets
    ]


def _clicks(drawing: Drawing, index: int, rng: np.random.Generator) -> tuple[Point, ...]:
    mask: Mask = drawing.figures[index].mask
    box: Box = drawing.figures[index].seen_box
    return clicks(mask, box, 3, 3, rng)


def _naming(drawing: Drawing, dialect: Dialect, frame: Frame, rng: np.random.Generator) -> list[Turn]:
    """What is at a place, mostly one on a figure."""
    height, width, _ = drawing.image.shape
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    if rng.random() < 0.85:
        rows, columns = np.nonzero(drawing.figures[int(rng.integers(len(drawing.figures)))].mask)
        at = int(rng.integers(len(rows)))
        x, y = columns[at] + 0.5, rows[at] + 0.5
    found = [figure for figure in drawing.figures if figure.mask[int(y), int(x)]]
    said = f"{found[0].size} {found[0].colour} {found[0].shape}" if found else "ground"
    return [Turn("user", ask_name(Point(float(x), float(y)), dialect, frame)), Turn("assistant", said)]
