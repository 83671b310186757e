"""What is said of one sample in one way: which boxes and points, drawn at random, and the turns that teach them.

Knows nothing of tokens, and of which samples are taught together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sam4mllm.language.dialects import Dialect
from sam4mllm.geometry.prompts import Box, Frame, Mask, Point, Prompt
from sam4mllm.mllm import Turn
from sam4mllm.training.dataset.mixture import Asking, Rows
from sam4mllm.data.samples import Sample
from sam4mllm.geometry.sampling import clicks, label, near_edge, poisson_disk
from sam4mllm.training.dataset.corpus import Targets
from sam4mllm.training.dataset.turns import box_turns, listed_turns, ppg_turns, pqpp_turns

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
