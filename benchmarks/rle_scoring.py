"""Scoring on run lengths against decoding the masks and counting pixels: the same integers, and the ratio of times.

Both sides start from the JSON of a prediction, as `score` does, and from a truth that is read already; random blobs
stand for masks. Checking the foreign counts is part of the time. Best of several rounds, taken in turns.

    python benchmarks/rle_scoring.py [--pairs 200] [--height 480] [--width 640]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from time import perf_counter

import cv2
import numpy as np
from pycocotools import mask as coco

from sam4mllm.geometry import Mask
from sam4mllm.metrics import Counts, count
from sam4mllm.rle import Rle

ROUNDS = 5


def blob(height: int, width: int, rng: np.random.Generator) -> Mask:
    """Two turned ellipses: about as many runs as the larger half of COCO's objects have (550 characters)."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(2):
        centre = int(rng.integers(width // 4, 3 * width // 4)), int(rng.integers(height // 4, 3 * height // 4))
        axes = int(rng.integers(width // 20, width // 5)), int(rng.integers(height // 20, height // 5))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return canvas.astype(bool)


def on_runs(truths: Sequence[Rle], lines: Sequence[str]) -> list[Counts]:
    return [count(truth, Rle.from_json(json.loads(line))) for truth, line in zip(truths, lines, strict=True)]


def on_pixels(truths: Sequence[Rle], lines: Sequence[str]) -> list[Counts]:
    return [_dense(truth, json.loads(line)) for truth, line in zip(truths, lines, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    truths, predictions = (
        [Rle.from_mask(blob(options.height, options.width, rng)) for _ in range(options.pairs)] for _ in range(2)
    )
    lines = [json.dumps(prediction.to_json()) for prediction in predictions]
    assert on_runs(truths, lines) == on_pixels(truths, lines), "the counts differ"
    ways: tuple[Callable[[Sequence[Rle], Sequence[str]], list[Counts]], ...] = (on_runs, on_pixels)
    seconds = [[_seconds(way, truths, lines) for way in ways] for _ in range(ROUNDS)]
    runs, pixels = (min(column) / options.pairs * 1000 for column in zip(*seconds, strict=True))
    length = sum(len(prediction.counts) for prediction in predictions) / options.pairs
    print(
        f"{options.height} x {options.width}, {options.pairs} pairs, {length:.0f} characters a mask, identical counts"
    )
    print(f"run lengths {runs:.3f} ms a pair, pixels {pixels:.3f} ms a pair: {pixels / runs:.1f} times as fast")


def _dense(truth: Rle, prediction: dict[str, object]) -> Counts:
    true, predicted = (coco.decode(each) for each in (truth.to_json(), prediction))
    both, either = np.count_nonzero(true & predicted), np.count_nonzero(true | predicted)
    return Counts(int(both), int(either), int(np.count_nonzero(true)), int(np.count_nonzero(predicted)))


def _seconds(
    way: Callable[[Sequence[Rle], Sequence[str]], list[Counts]], truths: Sequence[Rle], lines: Sequence[str]
) -> float:
    start = perf_counter()
    way(truths, lines)
    return perf_counter() - start


if __name__ == "__main__":
    main()
