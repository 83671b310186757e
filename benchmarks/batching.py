"""Predictions per second with and without batching, for the tiny models and their adapters on `shapes` scenes.

    python benchmarks/batching.py [--scenes 16] [--prompters box ppg pqpp] [--batches 1 4 16] [--rounds 3]

"one by one" calls a `Pipeline` for each sample, which reads and embeds the image for every phrase. The others are
`predict` with the given batch size, which embeds each image once for all its phrases. Runs on one thread; all variants
read and write files. Variants alternate, and the median of the rounds counts. Replies and masks of the largest batch
size are compared with those of the loop: float rounding depends on the batch size, so a few of them may differ.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TypeVar

import torch

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.geometry.prompts import iou
from sam4mllm.pipeline import Answer, Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--prompters", nargs="+", default=["box", "ppg", "pqpp"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        samples = write_scenes(Path(name), "test", options.scenes, Level(objects=(2, 3)))
        n_images = len({sample.image for sample in samples})
        sizes = " | ".join(f"batches of {batch}" for batch in options.batches)
        print(f"{len(samples)} expressions on {n_images} images; predictions per second of CPU time (wall clock)\n")
        print(f"| prompter | one by one | {sizes} | other replies | IoU |")
        print("|---|" + "---:|" * (len(options.batches) + 3))
        for prompter in options.prompters:
            adapter = EMBEDDED / ("ppg" if prompter == "ppg" else "pqpp")
            pipeline = PipelineConfig("tiny", "tiny", prompter, adapter=str(adapter), device="cpu").build()
            print(line(prompter, samples, pipeline, Path(name), options.batches, options.rounds), flush=True)


def line(name: str, samples: SampleSet, pipeline: Pipeline, folder: Path, batches: list[int], rounds: int) -> str:
    """A table row."""
    seconds: dict[int, list[tuple[float, float]]] = {batch: [] for batch in (0, *batches)}
    for turn in range(rounds):
        answers, spent = timed(lambda: [pipeline(samples.path(sample), sample.phrase) for sample in samples])
        seconds[0].append(spent)
        for batch in batches:
            file = folder / f"{name}-{batch}-{turn}.jsonl"
            _, spent = timed(partial(predict, samples, pipeline, file, batch_size=batch))
            seconds[batch].append(spent)
    cells = []
    for turns in seconds.values():
        processor, wall = (median(column) for column in zip(*turns, strict=True))
        cells.append(f"{len(samples) / processor:.1f} ({len(samples) / wall:.1f})")
    other, mean_iou = differences(answers, read_predictions(file))
    return f"| {name} | {' | '.join(cells)} | {other} of {len(samples)} | {mean_iou:.4f} |"


def timed(call: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    processor, wall = process_time(), perf_counter()
    result = call()
    return result, (process_time() - processor, perf_counter() - wall)


def differences(answers: list[Answer], predictions: list[Prediction]) -> tuple[int, float]:
    """The number of replies that differ, and the mean IoU between batched masks and masks of the loop."""
    pairs = list(zip(answers, predictions, strict=True))
    other = sum(answer.replies != prediction.replies for answer, prediction in pairs)
    ious = [iou(answer.mask, prediction.mask.mask) for answer, prediction in pairs]
    return other, sum(ious) / len(ious)


if __name__ == "__main__":
    main()
