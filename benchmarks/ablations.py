"""What each part of a lesson is worth on the embedded base, three trainings each: the paper's ablations at this scale.

Lessons are those of `recipes/tiny`, but for what is said here. Scenes, targets, adapters and predictions are kept in
OUT, and what is there is not made again; arms may be made by several processes side by side, each naming its own. Every
expression of the 2,000 train scenes can be asked; all is measured on the first 100 test scenes. The last table is of
the base's other skill: saying what is at a place. All of it takes some two hours of a core, and `make bench` leaves
it out.

    python benchmarks/ablations.py [--out out/ablations] [ARM …] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from sam4mllm.data.conversations import Talk, write_talks
from sam4mllm.data.samples import Sample
from sam4mllm.demo.recipe import Demo
from sam4mllm.evaluation.scores import score
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.load import build_mllm
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.load import Option, build_prompter
from sam4mllm.runtime.files import write_text
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.runtime.progress import progress
from sam4mllm.runtime.settings import load
from sam4mllm.segmenters.load import build_segmenter
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import AMBIGUOUS, write_scenes
from sam4mllm.targets.run import search_targets
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.dataset.mixture import Mixture, Source
from sam4mllm.training.run import run as finetune
from tiny_models.lessons import naming

TEST, PLACES = 100, 3
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "tiny"
PPG = load(RECIPES / "ppg.yaml", Demo, ["train_scenes=2000", "training.max_steps=700"])
LEVEL = Level(objects=PPG.objects)
# the same scenes and boxes; its own search looks for other clicks, which PQPP does not say
PQPP = replace(load(RECIPES / "pqpp.yaml", Demo, ["training.max_steps=350"]), search=PPG.search)
MIXED = replace(
    PPG,
    rows=replace(PPG.rows, mixture=Mixture(ppg=1, pqpp=0.5, box=0.1), asked=PQPP.rows.asked),
    training=replace(PPG.training, max_steps=1050),
)
# asked for nine at most as well, since the tiny tokenizer knows that question alone
FOUR = replace(PPG, search=replace(PPG.search, positive=4, negative=4, lattice=2))
GRIDS: dict[str, dict[str, Option]] = {
    "pqpp": PQPP.options["pqpp"],
    "pqpp, none dropped": {**PQPP.options["pqpp"], "sure_yes": 0.5, "sure_no": 0.5},
    "pqpp, the paper's thresholds": {**PQPP.options["pqpp"], "sure_yes": 0.75, "sure_no": 0.9},
    "pqpp, 9 points": {**PQPP.options["pqpp"], "points": 9},
    "pqpp, 49 points": {**PQPP.options["pqpp"], "points": 49},
}


@dataclass(frozen=True)
class Arm:
    """One lesson, a share of talks beside it, the name of its targets, and how it is asked beside for boxes."""

    lesson: Demo
    talks: float = 0.0
    targets: str = "filtered"
    asked: Mapping[str, dict[str, Option]] = field(default_factory=dict)


ARMS = {
    "ppg": Arm(PPG, asked={"ppg": PPG.options["ppg"]}),
    "ppg-unfiltered": Arm(
        replace(PPG, search=replace(PPG.search, keep=PPG.search.candidates, least=0)),
        targets="unfiltered",
        asked={"ppg": PPG.options["ppg"]},
    ),
    "ppg-4-points": Arm(FOUR, targets="four", asked={"ppg": FOUR.options["ppg"]}),
    "pqpp": Arm(PQPP, asked=GRIDS),
    "pqpp-vqa": Arm(
        replace(PQPP, training=replace(PQPP.training, max_steps=400)), talks=0.2, asked={"pqpp": GRIDS["pqpp"]}
    ),
    "mixed": Arm(MIXED, asked={"ppg": PPG.options["ppg"], "pqpp": GRIDS["pqpp"]}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(ARMS)}; all of them where none is named")
    parser.add_argument("--out", type=Path, default=Path("out/ablations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if unknown := set(options.arms) - set(ARMS):
        parser.error(f"unknown arm {min(unknown)}: choose from {', '.join(ARMS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arms = options.arms or list(ARMS)
    found = {"base": [measured(options.out, "base", 0)]}
    found |= {arm: [measured(options.out, arm, seed) for seed in options.seeds] for arm in arms}
    print(table(found))


def measured(out: Path, name: str, seed: int) -> dict[str, list[float]]:
    """cIoU of all and of the ambiguous expressions by way of asking, and how often it is said what is at a place."""
    folder = out / f"{name}-{seed}"
    noted = folder / "found.json"
    if noted.exists():
        found: dict[str, list[float]] = json.loads(noted.read_text(encoding="utf-8"))
        return found
    arm = ARMS.get(name)
    adapter = None if arm is None else taught(out, arm, seed, folder / "adapter")
    mllm = build_mllm("tiny", adapter=adapter, device="cpu")
    test, segmenter = write_scenes(out / "shapes", "test", TEST, LEVEL), build_segmenter("tiny", device="cpu")
    asked: Mapping[str, dict[str, Option]] = {"box": {}, **(arm.asked if arm else {"pqpp": GRIDS["pqpp"]})}
    found = {"naming": [names(mllm)]}
    for way, settings in asked.items():
        file = folder / f"{way.replace(' ', '_').replace(',', '')}.jsonl"
        predict(test, Pipeline(build_prompter(way.split(",")[0], mllm, settings), segmenter), file, batch_size=32)
        found[way] = ciou(list(test), list(read_predictions(file)))
        logging.info("%s %s: %s", folder.name, way, found[way])
    write_text(noted, json.dumps(found))
    return found


def taught(out: Path, arm: Arm, seed: int, adapter: Path) -> str:
    """The folder of an arm's adapter, trained unless it is there."""
    if not (adapter / "sam4mllm.json").exists():
        finetune(recipe_of(out, arm, seed, adapter))
    return str(adapter)


def recipe_of(out: Path, arm: Arm, seed: int, adapter: Path) -> FinetuneConfig:
    """What trains an arm's adapter; its scenes, targets and talks are made unless they are there."""
    samples, folder = (
        write_scenes(out / "shapes", "train", arm.lesson.train_scenes, LEVEL),
        out / f"targets-{arm.targets}",
    )
    search_targets(samples, folder, arm.lesson.seeded_search, "tiny", InProcess("cpu"), progress)
    sources = [Source(str(out / "shapes" / "train"), str(folder))]
    if arm.talks:
        sources.append(Source(talks=str(talks(out, arm.lesson.train_scenes)), weight=arm.talks))
    training, rows = replace(arm.lesson.training, seed=seed), replace(arm.lesson.rows, seed=seed)
    return FinetuneConfig(str(adapter), "tiny", tuple(sources), training, device="cpu", rows=rows)


def talks(out: Path, scenes: int) -> Path:
    """What is at some places of each train scene, as a set without masks."""
    folder, dialect = out / "talks", build_mllm("tiny", device="cpu").dialect
    if not (folder / "talks.json").exists():
        told = []
        for index in range(scenes):
            drawing, rng = draw_split("train", index, LEVEL), np.random.default_rng([1, index])
            height, width, _ = drawing.image.shape
            for place in range(PLACES):
                name, turns = f"train/{index:06d}.png", tuple(naming(drawing, dialect, rng))
                told.append(Talk(f"naming-{index:06d}-{place}", name, width, height, turns, "naming", "train"))
        write_talks(told, folder, (out / "shapes" / "images").absolute())
    return folder


def names(mllm: MLLM) -> float:
    """The share of places of the test scenes of which it is said rightly what is there."""
    right = 0
    for start in range(0, TEST, 50):
        drawings = [draw_split("test", index, LEVEL) for index in range(start, min(start + 50, TEST))]
        streams = [np.random.default_rng([2, start + row]) for row in range(len(drawings))]
        for _ in range(PLACES):
            asked = [naming(one, mllm.dialect, rng) for one, rng in zip(drawings, streams, strict=True)]
            replies = mllm.open([one.image for one in drawings]).answer([question.text for question, _ in asked])
            right += sum(reply.text == said.text for reply, (_, said) in zip(replies, asked, strict=True))
    return right / (TEST * PLACES)


def ciou(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[float]:
    ambiguous = {sample.id for sample in samples if sample.id.endswith(AMBIGUOUS)}
    fewer = [one for one in samples if one.id in ambiguous], [one for one in predictions if one.id in ambiguous]
    return [score(some, said, "rela").metrics["cIoU"] for some, said in ((samples, predictions), fewer)]


def table(found: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> str:
    lines = ["| lesson | asked by | cIoU, all | cIoU, ambiguous |", "|---|---|---:|---:|"]
    for name, runs in found.items():
        for way in (one for one in runs[0] if one != "naming"):
            columns = [_spread([run[way][which] for run in runs]) for which in (0, 1)]
            lines.append(f"| {name} | {way} | {' | '.join(columns)} |")
    lines += ["", "| lesson | says what is at a place |", "|---|---:|"]
    lines += [f"| {name} | {_spread([run['naming'][0] for run in runs])} |" for name, runs in found.items()]
    return "\n".join(lines)


def _spread(shares: Sequence[float]) -> str:
    """The mean in percent, and each training's where there are several."""
    each = ", ".join(f"{100 * one:.1f}" for one in shares)
    return f"{100 * fmean(shares):.1f} ± {100 * stdev(shares):.1f} ({each})" if len(shares) > 1 else each


if __name__ == "__main__":
    main()
