"""Training conversations of the tiny MLLM: boxes of a scene's expressions, and the figures at places."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam4mllm.geometry.prompts import Frame, Mask, Point, Prompt
from sam4mllm.language.messages import Turn
from sam4mllm.language.notation import Dialect
from sam4mllm.language.templates import format_label
from sam4mllm.synthetic.figures import Figure, choose
from sam4mllm.synthetic.phrases import Description
from sam4mllm.synthetic.scenes import Drawing
from sam4mllm.training.dataset.examples import box_turns


def ask_name(point: Point, dialect: Dialect, frame: Frame) -> str:
    """The question about the figure at a place; also used to check whether fine-tuning makes the base forget."""
    return f"What is at {dialect.write_point(point, frame)}?"


def ask_there(phrase: str) -> str:
    """The yes/no question whether a scene contains what a phrase describes."""
    return f'Is there "{phrase}"?'


@dataclass(frozen=True)
class QuestionCounts:
    """The numbers of questions per scene, besides one about the boxes of each expression.

    Attributes:
        names: questions about the figure at a place.
        there: questions whether an expression has a target.
        kinds: questions whether a kind of figure is at a place inside a figure's box.
        most: the most conversations per scene, selected at random.
        longer: the share of conversations that continue with the question and reply of another one.
    """

    names: int = 2
    there: int = 1
    kinds: int = 0
    most: int = 7
    longer: float = 0.1


def boxes_lessons(
    drawing: Drawing, counts: QuestionCounts, dialect: Dialect, rng: np.random.Generator
) -> list[list[Turn]]:
    """Short conversations: boxes of a scene's expressions, figures at places, and yes/no questions.

    No question is about a point of an expression's target, and no reply contains a point.
    """
    frame = _frame(drawing)
    parts = []
    for expression in drawing.expressions:
        prompts = [Prompt(drawing.figures[index].seen_box) for index in expression.targets]
        parts.append(box_turns(expression.text, prompts, dialect, frame))
    parts += [naming(drawing, dialect, rng) for _ in range(counts.names)]
    for index in rng.permutation(len(drawing.expressions))[: counts.there]:
        expression = drawing.expressions[index]
        parts.append(_yes_no(ask_there(expression.text), bool(expression.targets)))
    parts += [_sorting(drawing, dialect, frame, rng) for _ in range(counts.kinds)]
    order = rng.permutation(len(parts))
    seconds = np.roll(order, 1)
    return [
        [*parts[first], *(parts[second] if rng.random() < counts.longer else [])]
        for first, second in zip(order[: counts.most], seconds[: counts.most], strict=True)
    ]


def _frame(drawing: Drawing) -> Frame:
    height, width, _ = drawing.image.shape
    return Frame.unscaled(width, height)


def _yes_no(question: str, answer: bool) -> list[Turn]:
    return [Turn("user", question), Turn("assistant", format_label(answer))]


def naming(drawing: Drawing, dialect: Dialect, rng: np.random.Generator) -> list[Turn]:
    """The question and reply about what is at a place, which is mostly on a figure."""
    point, figure = _place(drawing, rng)
    name = f"{figure.size} {figure.colour} {figure.shape}" if figure else "ground"
    return [Turn("user", ask_name(point, dialect, _frame(drawing))), Turn("assistant", name)]


def _sorting(drawing: Drawing, dialect: Dialect, frame: Frame, rng: np.random.Generator) -> list[Turn]:
    """The question whether a figure's kind is at a place in that figure's box; half of the places are on the figure."""
    model = choose(drawing.figures, rng)
    shape, colour = choose(((True, True), (True, False), (False, True)), rng)
    noun = Description(model.shape if shape else None, model.colour if colour else None)
    window = np.zeros_like(model.mask)
    x0, y0, x1, y1 = (round(edge) for edge in model.seen_box.xyxy)
    window[y0:y1, x0:x1] = True
    off = window & ~model.mask
    point = _deep(off if rng.random() < 0.5 and off.any() else model.mask, rng)
    question = ask_there(f"the {noun.text()} at {dialect.write_point(point, frame)}")
    return _yes_no(question, bool(noun.matches(_figures_at(drawing, point))))


def _place(drawing: Drawing, rng: np.random.Generator) -> tuple[Point, Figure | None]:
    """A random place, mostly on a figure, and the figure at that place, if any."""
    mask = choose(drawing.figures, rng).mask
    point = _somewhere(mask if rng.random() < 0.85 else np.ones_like(mask), rng)
    return point, next(iter(_figures_at(drawing, point)), None)


def _figures_at(drawing: Drawing, point: Point) -> list[Figure]:
    """The visible figure at a point, or no figure."""
    return [figure for figure in drawing.figures if figure.mask[int(point.y), int(point.x)]]


def _deep(mask: Mask, rng: np.random.Generator) -> Point:
    """The centre of a random pixel of a mask; pixels far from its edge are more likely."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5).astype(np.float64)
    y, x = divmod(int(rng.choice(mask.size, p=(depth / depth.sum()).ravel())), mask.shape[1])
    return Point(x + 0.5, y + 0.5)


def _somewhere(mask: Mask, rng: np.random.Generator) -> Point:
    """The centre of a random pixel of a mask."""
    rows, columns = np.nonzero(mask)
    index = int(rng.integers(len(rows)))
    return Point(float(columns[index]) + 0.5, float(rows[index]) + 0.5)
