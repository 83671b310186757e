"""Training speed of packed rows: supervised tokens per second with several expressions per conversation and with one.

    python benchmarks/packed_rows.py

Both variants train on real rows of the same `shapes` scenes with the model class and tokenizer of `tiny`: build rows,
tokenize, forward, backward. Weights are random, and the image encoder is frozen as in training. Packing saves image
tokens, so the gain depends on their number: 196 for tiny (112 pixels per side), and 576 (192 pixels) as in LLaVA-1.5.
Variants alternate, and the median of the passes counts. CPU time is reported too, since the machine may be busy.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from sam4mllm.demo.recipe import Demo
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.rows import IGNORE_LABEL
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.runtime.progress import progress
from sam4mllm.runtime.settings import load
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes
from sam4mllm.targets.record import read_targets
from sam4mllm.targets.run import search_targets
from sam4mllm.training.dataset.corpus import LoadedSource, corpus
from sam4mllm.training.dataset.mixture import Mixture, Rows
from sam4mllm.training.dataset.rows import TrainingRows
from tiny_models.model import PATCH, ROW

GOAL = 0.6
LESSON = Path(__file__).resolve().parents[1] / "recipes" / "tiny" / "ppg.yaml"  # the recipe of the targets for PPG


@dataclass(frozen=True)
class Pass:
    """One pass over an epoch, in seconds."""

    supervised: int
    processor: float
    wall: float


def conversations(mllm: HfMLLM, part: LoadedSource, rows: Rows) -> TrainingRows:
    return TrainingRows(corpus([part], rows), rows, mllm, mllm.lengths)


def learn(mllm: HfMLLM, rows: TrainingRows, batch: int) -> Pass:
    """One pass over the first epoch, without optimizer steps, which cost the same for both variants."""
    supervised, processor, wall = 0, process_time(), perf_counter()
    for start in range(0, len(rows), batch):
        inputs = mllm.rows([rows.row(index) for index in range(start, min(start + batch, len(rows)))])
        supervised += int((inputs["labels"] != IGNORE_LABEL).sum())
        mllm.model.zero_grad()
        mllm.model(**inputs).loss.backward()
    return Pass(supervised, process_time() - processor, perf_counter() - wall)


def built(side: int) -> HfMLLM:
    """The tiny MLLM with random weights, for square images of ``side`` pixels."""
    processor = AutoProcessor.from_pretrained(EMBEDDED / "mllm")
    processor.image_processor.size = {"height": side, "width": side}
    config = AutoConfig.from_pretrained(EMBEDDED / "mllm")
    config.vision_config.image_size, config.image_seq_length = side, (side // PATCH) ** 2
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config = GenerationConfig.from_pretrained(EMBEDDED / "mllm")
    model.get_encoder("image").requires_grad_(False)
    return HfMLLM(model.eval(), processor, ROW)


def score_differences(mllm: HfMLLM, part: LoadedSource, rows: Rows, repeats: int, batch: int) -> str:
    """A table row: both rates, their ratio, and the goal for the ratio."""
    sides = [conversations(mllm, part, replace(rows, per_image=most)) for most in (1, rows.per_image)]
    passes = [[learn(mllm, side, batch) for side in sides] for _ in range(repeats)]
    mean, lock_folder = len(part.rows) / len(sides[1]), sides[0]
    text = sum(mllm.lengths.conversation(lock_folder.turns(index))[0] for index in range(len(lock_folder))) / len(
        lock_folder
    )
    cells = [f"{text:.0f}", f"{mean:.2f}"]
    for name in ("processor", "wall"):
        single, packed = (
            median(run.supervised / getattr(run, name) for run in side) for side in zip(*passes, strict=True)
        )
        cells += [f"{single:.0f}", f"{packed:.0f}", f"{packed / single:.2f}"]
    return " | ".join([*cells, f"{GOAL * mean:.2f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="conversations per batch; batches above 1 are padded")
    parser.add_argument("--per-image", type=int, default=4)
    parser.add_argument("--sides", type=int, nargs="+", default=[112, 192], help="side of the image, in pixels")
    options = parser.parse_args()
    print(f"{options.scenes} scenes, supervised tokens per second of CPU time (cpu) and of wall-clock time (clock);")
    print("image and text: tokens per image and expression; expressions: per packed conversation\n")
    print("| rows | image | text | expressions | one (cpu) | packed | ratio | one (clock) | packed | ratio | goal |")
    print("|---|" + "---:|" * 10)
    with tempfile.TemporaryDirectory() as folder:
        lesson = load(LESSON, Demo)
        lesson = replace(lesson, search=replace(lesson.search, least=0))  # gives every mask a target
        samples = write_scenes(Path(folder), "train", options.scenes, Level(objects=lesson.objects))
        search_targets(samples, Path(folder) / "targets", lesson.seeded_search, "tiny", InProcess("cpu"), progress)
        part = LoadedSource("shapes", samples, read_targets(Path(folder) / "targets"))
        for side in options.sides:
            mllm = built(side)
            for name, mixture in (("PPG", Mixture(1, 0)), ("PQPP", Mixture(0, 1))):
                most = lesson.rows.positive  # maximum number of points with each label
                rows = Rows(mixture, positive=most, negative=most, per_image=options.per_image)
                line = score_differences(mllm, part, rows, options.repeats, options.batch)
                print(f"| {name} | {(side // PATCH) ** 2} | {line} |", flush=True)


if __name__ == "__main__":
    main()
