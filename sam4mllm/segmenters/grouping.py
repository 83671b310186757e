"""Prompts as arrays in the frame of a SAM's input, in groups that one call of its decoder can process.

All prompts of a group have the same number of points: a decoder also attends to padding points, so padding would
change the masks. SAMs add half a pixel of their input to every coordinate, because they expect pixel indices. A place
x of the original image is therefore passed as x * scale - .5, box edges included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from sam4mllm.geometry.prompts import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class PromptGroup:
    """Prompts with the same number of points, all with a box or all without.

    Attributes:
        rows: the index of each prompt among all prompts. Further rows of the arrays are padding.
        boxes: x0, y0, x1, y1 as pixel indices of the model's input; None without boxes.
        points: x, y as pixel indices of the model's input.
        labels: 1 on the object, 0 off it.
    """

    rows: tuple[int, ...]
    boxes: Float32[np.ndarray, "n 4"] | None
    points: Float32[np.ndarray, "n p 2"]
    labels: Int64[np.ndarray, "n p"]


def group_prompts(
    prompts: Sequence[Prompt], scale: tuple[float, float], max_prompts: int, multiple: int = 1
) -> Iterator[PromptGroup]:
    """Split the prompts into groups of the same kind (see `PromptGroup`). Each prompt is in exactly one group.

    Args:
        prompts: in pixels of the original image.
        scale: pixels of the model's input per original pixel, along x and y.
        max_prompts: the maximum size of a group, which bounds the memory of a call.
        multiple: the number of rows in the arrays is padded to a multiple of this, with copies of the last prompt.
    """
    rows_by_kind: dict[tuple[int, bool], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_by_kind.setdefault((len(prompt.points), prompt.box is None), []).append(row)
    for (count, _), rows in rows_by_kind.items():
        for start in range(0, len(rows), max_prompts):
            chunk = rows[start : start + max_prompts]
            padded = [*chunk, *chunk[-1:] * (-len(chunk) % multiple)]
            yield _group([prompts[row] for row in padded], tuple(chunk), count, np.array(scale))


def _group(prompts: Sequence[Prompt], rows: tuple[int, ...], count: int, scale: Float[np.ndarray, "2"]) -> PromptGroup:
    boxes = [prompt.box.xyxy for prompt in prompts if prompt.box is not None]
    corners = np.array(boxes).reshape(-1, 2, 2)
    points = np.array([[(point.x, point.y) for point in prompt.points] for prompt in prompts])
    labels = np.array([[point.positive for point in prompt.points] for prompt in prompts])
    return PromptGroup(
        rows,
        (corners * scale - 0.5).reshape(-1, 4).astype(np.float32) if boxes else None,
        (points.reshape(len(prompts), count, 2) * scale - 0.5).astype(np.float32),
        labels.reshape(len(prompts), count).astype(np.int64),
    )
