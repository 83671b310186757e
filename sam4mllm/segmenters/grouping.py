"""Prompts as arrays in a SAM's own frame, in groups that one call of its decoder can take.

A group holds prompts with equally many points: a decoder attends to padding points as well, so padded prompts would be
drawn otherwise than alone. All SAMs add half a pixel of their input to every coordinate, as they expect the indices of
pixels; a place x of the original is therefore handed over as x * scale - .5, and the model sees it exactly where it
is. The edges of boxes are places like any other. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from sam4mllm.geometry.prompts import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Prompts with equally many points.

    Attributes:
        rows: where each stood among all prompts; what the arrays hold beyond them is filling.
        boxes: x0, y0, x1, y1 in indices of the model's pixels.
        points: x, y likewise.
        labels: 1 on the object, 0 off it.
    """

    rows: tuple[int, ...]
    boxes: Float32[np.ndarray, "n 4"]
    points: Float32[np.ndarray, "n p 2"]
    labels: Int64[np.ndarray, "n p"]


def groups(prompts: Sequence[Prompt], scale: tuple[float, float], most: int, multiple: int = 1) -> Iterator[Group]:
    """The prompts by their number of points, at most ``most`` at once; each in exactly one group.

    Args:
        prompts: in pixels of the original image.
        scale: pixels of the model's input per original pixel, along x and y.
        most: the bound on a group, and so on the memory that a call takes.
        multiple: of which the number of rows in a group's arrays is to be; the last prompt fills them up.
    """
    alike: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        alike.setdefault(len(prompt.points), []).append(row)
    for count, rows in alike.items():
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            filled = [*part, *part[-1:] * (-len(part) % multiple)]
            yield _group([prompts[row] for row in filled], tuple(part), count, np.array(scale))


def _group(prompts: Sequence[Prompt], rows: tuple[int, ...], count: int, scale: Float[np.ndarray, "2"]) -> Group:
    corners = np.array([prompt.box.xyxy for prompt in prompts]).reshape(-1, 2, 2)
    points = np.array([[(point.x, point.y) for point in prompt.points] for prompt in prompts])
    labels = np.array([[point.positive for point in prompt.points] for prompt in prompts])
    return Group(
        rows,
        (corners * scale - 0.5).reshape(-1, 4).astype(np.float32),
        (points.reshape(len(prompts), count, 2) * scale - 0.5).astype(np.float32),
        labels.reshape(len(prompts), count).astype(np.int64),
    )
