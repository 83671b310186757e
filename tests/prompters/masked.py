"""A scripted MLLM with access to the masks: it generates their boxes and classifies every point correctly."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from sam4mllm.geometry.prompts import Frame, Mask, bounding_box, is_on_mask
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import format_boxes
from sam4mllm.mllm.scripted import ScriptedMLLM

ROW = dialect("sam4mllm")
PLACE = re.compile(r"\((\d+),(\d+)\)")


def mllm_with_masks(masks: Mapping[str, Mask]) -> ScriptedMLLM:
    """Replies from the mask of each query's key, with certain answers about points."""

    def reply(key, image, turns):
        box = bounding_box(masks[key])
        return format_boxes((box,), "it", ROW, Frame.unscaled(image.shape[1], image.shape[0])) if box else ROW.none

    def choose(key, image, turns, question, options):
        x, y = (int(number) / 1000 for number in PLACE.findall(question)[0])
        return [1.0, 0.0] if is_on_mask(masks[key], x * image.shape[1], y * image.shape[0]) else [0.0, 1.0]

    return ScriptedMLLM(reply, choose)


def disk(side: int = 200, centre: tuple[float, float] = (100.0, 90.0), radius: float = 80.0) -> Mask:
    rows, columns = np.indices((side, side)) + 0.5
    return np.hypot(columns - centre[0], rows - centre[1]) < radius


def half(side: int = 200) -> Mask:
    """A triangle; half of its box is empty."""
    rows, columns = np.indices((side, side))
    return (columns > 20) & (rows < 180) & (columns < rows)
