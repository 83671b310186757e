"""The whole method on the embedded models: teach points with a LoRA, ask in every way, score, and leave pictures.

Run as ``python -m sam4mllm.tiny.demo RECIPE [key=value …]``; each part that is done is not done again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam4mllm.draw import AnySize, contact_sheet, overlay
from sam4mllm.finetune import Training, finetune
from sam4mllm.geometry import Prompt
from sam4mllm.images import read_image, write_png
from sam4mllm.mllm import Conversation
from sam4mllm.mllm.hf import HfMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.predict import predict
from sam4mllm.predictions import Prediction, read_predictions
from sam4mllm.prompters import Prompter
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.prompters.ppg import PPG
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.samples import SampleSet, read_samples, write_samples
from sam4mllm.sampling import clicks
from sam4mllm.score import Scores, score, table
from sam4mllm.segmenter import Segmenter
from sam4mllm.segmenter.hf import HfSegmenter
from sam4mllm.settings import load
from sam4mllm.shapes import Level, Split, draw_split
from sam4mllm.shapes.shards import samples_of
from sam4mllm.tiny.lessons import points_lesson

log = logging.getLogger(__name__)
KINDS = ("ppg", "pqpp")


@dataclass(frozen=True)
class Demo:
    """A demonstration; the recipe says what each value is for."""

    out: str
    mllm: str
    segmenter: str
    training: Training
    scenes: int = 40
    objects: tuple[int, int] = (1, 3)
    asked: int = 6
    points: int = 9
    sure_yes: float = 0.75
    sure_no: float = 0.9
    seed: int = 0


def write_scenes(folder: Path, split: Split, scenes: int, level: Level) -> SampleSet:
    """The first scenes of a split as pictures and samples below a folder; what is there already is kept."""
    if not (folder / split / "dataset.json").exists():
        samples = []
        for index in range(scenes):
            drawing, name = draw_split(split, index, level), f"{split}/{index:06d}.png"
            write_png(folder / "images" / name, drawing.image)
            samples += samples_of(drawing, name, split)
        write_samples(samples, folder / split, folder / "images")
    return read_samples(folder / split)


def teach(recipe: Demo, out: Path) -> Path:
    """A LoRA on the base that teaches points, PPG and PQPP conversations in turn; returns its folder."""
    if (out / "sam4mllm.json").exists():
        return out
    mllm = HfMLLM.load(recipe.mllm, device="cpu")
    level = Level(objects=recipe.objects)

    def row(index: int) -> Conversation:
        rng = np.random.default_rng([recipe.seed, 3, index])
        drawing = draw_split("train", 2**42 + recipe.seed * 2**32 + index, level)
        kind = KINDS[index % 2]
        chosen = rng.permutation(len(drawing.expressions))[: 4 if kind == "ppg" else 2]
        expressions = [drawing.expressions[at] for at in chosen]
        return drawing.image, points_lesson(drawing, expressions, kind, recipe.asked, mllm.dialect, rng)

    return finetune(mllm, row, recipe.training, out)


def true_prompts(samples: SampleSet, seed: int) -> Mapping[str, tuple[Prompt, ...]]:
    """The prompts that a perfect talker would give: each target's box, with three clicks on it and three off."""
    found = {}
    for number, sample in enumerate(samples):
        rng = np.random.default_rng([seed, number])
        boxes = [(rle.mask, rle.box) for rle in sample.masks]
        found[sample.id] = tuple(Prompt(box, clicks(mask, box, 3, 3, rng)) for mask, box in boxes if box is not None)
    return found


def ask(samples: SampleSet, prompters: Mapping[str, Prompter], segmenter: Segmenter, out: Path) -> dict[str, Scores]:
    """Predict and score the samples with every prompter; predictions are left in ``out``."""
    found = {}
    for name, prompter in prompters.items():
        file = out / f"{name.replace(' ', '-')}.jsonl"
        predict(samples, Pipeline(prompter, segmenter), file, batch_size=32)
        found[name] = score(samples.samples, read_predictions(file), "rela")
        log.info("%s: cIoU %.1f", name, 100 * found[name].metrics["cIoU"])
    return found


def sheet(samples: SampleSet, out: Path, names: list[str], rows: int) -> None:
    """A contact sheet: some samples that have targets, a column for each way of asking."""
    predictions = {name: {one.id: one for one in read_predictions(out / f"{name}.jsonl")} for name in names}
    chosen = [sample for sample in samples if sample.masks][:: max(1, len(samples) // rows)][:rows]
    tiles = [
        _tile(samples.images / sample.image, f"{name}: {sample.phrase}", predictions[name][sample.id])
        for sample in chosen
        for name in names
    ]
    write_png(out / "sheet.png", contact_sheet(tiles, len(names), (336, 380)))


def run(recipe: Demo) -> str:
    """All of it; returns the table."""
    out = Path(recipe.out)
    samples = write_scenes(out / "shapes", "test", recipe.scenes, Level(objects=recipe.objects))
    adapter = teach(recipe, out / "adapter")
    segmenter = HfSegmenter.load(recipe.segmenter, device="cpu")
    base = HfMLLM.load(recipe.mllm, device="cpu", max_new_tokens=64)
    taught = HfMLLM.load(recipe.mllm, adapter=adapter, device="cpu", max_new_tokens=64)
    prompters: dict[str, Prompter] = {
        "base-box": BoxPrompter(base),
        "base-ppg": PPG(base),
        "box": BoxPrompter(taught),
        "ppg": PPG(taught),
        "pqpp": PQPP(taught, points=recipe.points, sure_yes=recipe.sure_yes, sure_no=recipe.sure_no),
        "oracle": Oracle(true_prompts(samples, recipe.seed)),
    }
    found = ask(samples, prompters, segmenter, out)
    sheet(samples, out, ["box", "ppg", "pqpp", "oracle"], 8)
    return table(found)


def _tile(picture: Path, caption: str, prediction: Prediction) -> AnySize:
    return overlay(read_image(picture), prediction.prompts, [prediction.mask.mask], caption)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load(Path(sys.argv[1]), Demo, sys.argv[2:])
    sys.stdout.write(run(recipe))
