"""cIoU by the number of questions per box, for adaptive PQPP and for PQPP with a plain grid.

    python benchmarks/adaptive.py [--scenes 60] [--mllm [--sure 0.75 0.9]] [--segmenter tiny] [--chart FILE.svg]

Uses `shapes` scenes. By default a perfect model answers with the ground-truth box and point labels, so that only the
positions of the points differ. With ``--mllm`` the tiny MLLM answers, with the embedded PQPP adapter. Differences are
paired, with a 95% interval over images.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chart import curves

from sam4mllm.data.samples import SampleSet
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.pairing import EvaluatedSet, evaluate_set
from sam4mllm.evaluation.scores import score_differences
from sam4mllm.geometry.prompts import Frame, Image, is_on_mask
from sam4mllm.language.dialects import dialect
from sam4mllm.language.templates import format_boxes
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prompters.adaptive import AdaptivePQPP
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.prompters.points import Thresholds
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes

GRIDS = (4, 9, 16, 25, 36, 49, 81)
BUDGETS = (6, 9, 12, 16, 25, 36, 49, 81)
COARSE = (4, 9, 16)
PLACE = re.compile(r"\((\d+),(\d+)\)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--mllm", action="store_true", help="use the tiny MLLM instead of the perfect model")
    parser.add_argument("--sure", type=float, nargs=2, default=[0.75, 0.9], help="thresholds of yes and no")
    parser.add_argument("--segmenter", default="tiny")
    parser.add_argument("--chart", type=Path, help="SVG file for the curves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scenes = write_scenes(Path(name), "test", options.scenes, Level(objects=(2, 3)))
        samples = SampleSet(tuple(sample for sample in scenes if len(sample.masks) == 1), scenes.images)
        mllm, sure = tiny() if options.mllm else perfect_model(samples), Thresholds(*options.thresholds)
        print(f"{len(samples)} expressions; {'the tiny MLLM and its adapter' if options.mllm else 'a perfect model'}\n")
        print("| strategy | questions per box | cIoU | difference from a grid as large | 95% interval |")
        print("|---|---:|---:|---:|---:|")
        curve_points = strategies(
            samples, mllm, sure, SegmenterSpec(options.segmenter, device="cpu").load(), Path(name)
        )
    if options.chart:
        options.chart.write_text(curves(curve_points, ("questions per box", "cIoU")))


def tiny() -> MLLM:
    return MLLMSpec("tiny", adapter=str(EMBEDDED / "pqpp"), device="cpu").load()


def perfect_model(samples: SampleSet) -> MLLM:
    """A model that answers from the ground truth."""
    masks = {sample.id: sample.masks[0].mask for sample in samples}
    boxes = {sample.id: box for sample in samples if (box := sample.masks[0].box)}
    row = dialect("sam4mllm")

    def answer(key: str, image: Image, *_: object) -> str:
        return format_boxes((boxes[key],), "it", row, Frame.unscaled(image.shape[1], image.shape[0]))

    def choose(key: str, image: Image, _: object, question: str, *__: object) -> list[float]:
        x, y = (int(value) / 1000 for value in PLACE.findall(question)[0])
        return [1.0, 0.0] if is_on_mask(masks[key], x * image.shape[1], y * image.shape[0]) else [0.0, 1.0]

    return ScriptedMLLM(answer, choose, row)


def strategies(
    samples: SampleSet, mllm: MLLM, sure: Thresholds, segmenter: Segmenter, folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """Prints one table row per strategy; returns (questions, cIoU) points by the name of their curve."""
    box, _ = evaluate(samples, Pipeline(BoxPrompter(mllm), segmenter), folder / "box.jsonl")
    curve_points: dict[str, list[tuple[float, float]]] = {"plain grid": [line("box", 0.0, box)]}
    plain: dict[int, EvaluatedSet] = {}
    for points in GRIDS:
        plain[points], questions = evaluate(
            samples, Pipeline(PQPP(mllm, "grid", points, sure.yes, sure.no), segmenter), folder / f"grid-{points}.jsonl"
        )
        curve_points["plain grid"].append(line(f"grid {points}", questions, plain[points]))
    for coarse in COARSE:
        for budget in (count for count in BUDGETS if count > coarse):
            file = folder / f"adaptive-{coarse}-{budget}.jsonl"
            evaluated, questions = evaluate(
                samples, Pipeline(AdaptivePQPP(mllm, coarse, budget, sure.yes, sure.no), segmenter), file
            )
            place = line(f"adaptive {coarse}, budget {budget}", questions, evaluated, plain)
            curve_points.setdefault(f"adaptive from {coarse}", []).append(place)
    return curve_points


def evaluate(samples: SampleSet, pipeline: Pipeline, file: Path) -> tuple[EvaluatedSet, float]:
    """The evaluated samples, and the mean number of questions per box."""
    predict(samples, pipeline, file, batch_size=16)
    predictions = read_predictions(file)
    boxes = sum(len(prediction.prompts) for prediction in predictions)
    questions = sum(len(prediction.point_answers) for prediction in predictions)
    return evaluate_set(samples.samples, predictions, "lavt"), questions / max(1, boxes)


def line(
    name: str, questions: float, evaluated: EvaluatedSet, plain: Mapping[int, EvaluatedSet] | None = None
) -> tuple[float, float]:
    """Prints a table row; returns questions and cIoU."""
    value, difference_cells = 100 * evaluated.ratios["cIoU"].value, "- | -"
    if plain:
        fair = min((points for points in plain if points >= questions - 0.5), default=max(plain))
        difference, low, high = (
            100 * share for share in score_differences(evaluated, plain[fair], Bootstrap())["cIoU"]
        )
        difference_cells = f"{difference:+.1f} (grid {fair}) | {low:+.1f} to {high:+.1f}"
    print(f"| {name} | {questions:.1f} | {value:.1f} | {difference_cells} |", flush=True)
    return questions, value


if __name__ == "__main__":
    main()
