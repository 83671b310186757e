"""What the tiny MLLM is taught on scenes: conversations about all that is said of a scene, and what is at a place.

Knows nothing of models and tokens.
"""

from __future__ import annotations

import numpy as np

from sam4mllm.dialects import Dialect
from sam4mllm.dialogue import say_label
from sam4mllm.geometry import Frame, Point, Prompt
from sam4mllm.mllm import Turn
from sam4mllm.shapes import Drawing, Expression
from sam4mllm.turns import box_turns


def ask_name(point: Point, dialect: Dialect, frame: Frame) -> str:
    """Ask what is at a place: the base's other skill, which shows whether a later lesson made it forget."""
    return f"What is at {dialect.write_point(point, frame)}?"


def ask_there(phrase: str) -> str:
    """Ask whether a scene holds what a phrase means: the base's third skill, by which it knows yes and no."""
    return f'Is there "{phrase}"?'


def boxes_lessons(
    drawing: Drawing, names: int, there: int, most: int, longer: float, dialect: Dialect, rng: np.random.Generator
) -> list[list[Turn]]:
    """Short conversations: the boxes of each expression of a scene, names at places, and whether some are there.

    No question is about points of an object.

    Args:
        drawing: the scene.
        names: how many places are asked about.
        there: for how many expressions it is asked whether there is such a thing.
        most: how many conversations are kept, chosen at random.
        longer: the share of conversations that have a second turn, another's.
        dialect: of the model.
        rng: chooses places and second turns.
    """
    frame = _frame(drawing)
    parts = [
        box_turns(expression.text, _prompts(drawing, expression), dialect, frame) for expression in drawing.expressions
    ]
    parts += [_naming(drawing, dialect, frame, rng) for _ in range(names)]
    for index in rng.permutation(len(drawing.expressions))[:there]:
        expression = drawing.expressions[index]
        parts.append([Turn("user", ask_there(expression.text)), Turn("assistant", say_label(bool(expression.targets)))])
    order = rng.permutation(len(parts))
    seconds = np.roll(order, 1)
    return [
        [*parts[first], *(parts[second] if rng.random() < longer else [])]
        for first, second in zip(order[:most], seconds[:most], strict=True)
    ]


def _frame(drawing: Drawing) -> Frame:
    height, width, _ = drawing.image.shape
    return Frame.whole(width, height)


def _prompts(drawing: Drawing, expression: Expression) -> list[Prompt]:
    return [Prompt(drawing.figures[index].seen_box) for index in expression.targets]


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
