"""Speed of scoring on run lengths, compared with the official method of decoding masks and counting pixels.

All methods start from a prediction file and ground truths in memory, and must end in the same integers, from which
cIoU, gIoU and the accuracies are computed. "official" is the method of the evaluators of ReLA and LAVT: pycocotools
decodes both masks, and numpy sums their logical and and logical or. "counted" is the fastest dense method that we know,
`count_nonzero` of `&` and `|`. Masks are random blobs of 550 characters, as many runs as the larger half of COCO's
objects have. Files are our JSON lines, with a box, six points and a reply per line, and a list of COCO RLE. Methods
alternate; times are CPU seconds. The dense methods are timed on a part of the predictions, which cost the same each.

    python benchmarks/scoring.py [--predictions 20000] [--dense 2000] [--height 480] [--width 640]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import cv2
import numpy as np
from pycocotools import mask as coco

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.counts import CountColumns, PixelCounts
from sam4mllm.evaluation.external import read_any
from sam4mllm.evaluation.pairing import evaluate_set
from sam4mllm.evaluation.scores import scores_of
from sam4mllm.geometry.prompts import Mask, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Reply
from sam4mllm.prediction.record import Prediction

ROUNDS = 3
DISTINCT = 2000  # generated masks; larger datasets reuse them in other pairs


def blob(height: int, width: int, rng: np.random.Generator) -> Mask:
    """A mask of two rotated ellipses."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(2):
        centre = int(rng.integers(width // 4, 3 * width // 4)), int(rng.integers(height // 4, 3 * height // 4))
        axes = int(rng.integers(width // 20, width // 5)), int(rng.integers(height // 20, height // 5))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return canvas.astype(bool)


def make_predictions(total: int, height: int, width: int) -> tuple[list[Sample], list[Prediction]]:
    """Samples with one target, about three per image, and their predictions; one in twenty has an empty mask."""
    rng = np.random.default_rng(0)
    blobs = [Rle.from_mask(blob(height, width, rng)) for _ in range(min(total, DISTINCT))]
    picked = rng.integers(len(blobs), size=(total, 2))
    samples, predictions = [], []
    for row, (target, guess) in enumerate(picked.tolist()):
        samples.append(Sample(f"s{row}", f"{row // 3}.jpg", width, height, "the blob", (blobs[target],)))
        box = blobs[guess].box
        points = tuple(Point(box.x0 + step, box.y0 + step, step % 2 == 0) for step in range(6))
        mask = blobs[guess] if row % 20 else Rle.empty(height, width)
        predictions.append(Prediction(f"s{row}", (Prompt(box, points),), mask, (Reply("[120,240,863,999]"),)))
    return samples, predictions


def on_runs(samples: Sequence[Sample], file: Path) -> CountColumns:
    """Scores a file as `sam4mllm score` does, without intervals."""
    masks = read_any(file, samples)
    evaluated = evaluate_set(samples, masks.outcomes, "rela", masks.places)
    scores_of(evaluated)
    return evaluated.pixels


def on_pixels(sums: bool, ground_truths: Sequence[Rle], file: Path) -> list[PixelCounts]:
    """Counts the pixels of each prediction in the file on dense masks, with logical sums or `count_nonzero`."""
    text = file.read_text()
    if text.startswith("["):
        masks = [record["segmentation"] for record in json.loads(text)]
        return [_dense(ground_truth, mask, sums) for ground_truth, mask in zip(ground_truths, masks, strict=False)]
    lines = text.splitlines()
    return [
        _dense(ground_truth, json.loads(line)["rle"], sums)
        for ground_truth, line in zip(ground_truths, lines, strict=False)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=20_000)
    parser.add_argument("--dense", type=int, default=2_000, help="number of predictions to time the dense methods on")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args()
    total, dense = options.predictions, min(options.dense, options.predictions)
    samples, predictions = make_predictions(total, options.height, options.width)
    ground_truths = [sample.masks[0] for sample in samples]
    length = sum(len(ground_truth.counts) for ground_truth in ground_truths) / total
    print(f"{total} predictions of {options.width} x {options.height}, {length:.0f} characters per ground-truth mask")
    with tempfile.TemporaryDirectory() as folder:
        files = _written(Path(folder) / "all", predictions)
        parts = _written(Path(folder) / "part", predictions[:dense])
        for file, part in zip(files, parts, strict=True):
            ways: dict[str, tuple[Callable[[], CountColumns | list[PixelCounts]], int]] = {
                "run lengths": (partial(on_runs, samples, file), total),
                "official": (partial(on_pixels, True, ground_truths, part), dense),
                "counted": (partial(on_pixels, False, ground_truths, part), dense),
            }
            first = on_runs(samples, file).rows[:dense]
            assert all(on_pixels(sums, ground_truths, part) == first for sums in (True, False)), "the integers differ"
            rounds = [{name: _seconds(way) / n for name, (way, n) in ways.items()} for _ in range(ROUNDS)]
            seconds = {name: min(round_seconds[name] for round_seconds in rounds) for name in ways}
            summary = ", ".join(f"{name} {1e6 * value:.0f}" for name, value in seconds.items())
            ours = seconds["run lengths"]
            print(
                f"{file.name}: the same {dense} x 4 integers; CPU microseconds per prediction: {summary}; "
                f"{ours * total:.2f} s for all; {seconds['official'] / ours:.1f} times as fast as the official method, "
                f"{seconds['counted'] / ours:.1f} times as fast as counted"
            )
    evaluated = evaluate_set(samples, predictions, "rela")
    start = perf_counter()
    scores_of(evaluated, Bootstrap())
    print(f"intervals of all metrics, {Bootstrap().draws} draws: {perf_counter() - start:.2f} s")


def _written(folder: Path, predictions: Sequence[Prediction]) -> tuple[Path, Path]:
    folder.mkdir()
    lines, rles = folder / "predictions.jsonl", folder / "coco_rle.json"
    lines.write_text("".join(f"{prediction.to_line()}\n" for prediction in predictions))
    rles.write_text(
        json.dumps([{"id": prediction.id, "segmentation": prediction.mask.to_json()} for prediction in predictions])
    )
    return lines, rles


def _dense(ground_truth: Rle, prediction: dict[str, object], sums: bool) -> PixelCounts:
    truth_mask, predicted = (coco.decode(rle) for rle in (ground_truth.to_json(), prediction))
    if sums:
        intersection, union = (
            np.sum(np.logical_and(truth_mask, predicted)),
            np.sum(np.logical_or(truth_mask, predicted)),
        )
    else:
        intersection, union = np.count_nonzero(truth_mask & predicted), np.count_nonzero(truth_mask | predicted)
    # the official code does not compute these areas; computing them from run lengths costs little
    return PixelCounts(
        int(intersection), int(union), int(coco.area(ground_truth.to_json())), int(coco.area(prediction))
    )


def _seconds(way: Callable[[], CountColumns | list[PixelCounts]]) -> float:
    start = process_time()
    way()
    return process_time() - start


if __name__ == "__main__":
    main()
