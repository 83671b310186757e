"""Ablations of the training recipes on the embedded base model, with three seeds each.

The recipes are those of `recipes/tiny`, with the changes below. Scenes, targets, adapters and predictions are stored in
OUT and reused; several processes can run different arms in parallel. Training uses the expressions of 2,000 train
scenes, evaluation the first 100 test scenes. The second table measures the base's other skill: naming the object at a
location. A full run takes about two hours on one core, and is not part of `make bench`.

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

from sam4mllm.data.conversations import Conversation, write_conversations
from sam4mllm.data.samples import Sample
from sam4mllm.demo.recipe import Demo
from sam4mllm.evaluation.scores import score
from sam4mllm.mllm import MLLM
from sam4mllm.mllm.load import MLLMSpec
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.load import Option, PrompterSpec
from sam4mllm.runtime.files import write_text
from sam4mllm.runtime.parallel import InProcess
from sam4mllm.runtime.progress import progress
from sam4mllm.runtime.settings import load
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.synthetic.shards import AMBIGUOUS, write_scenes
from sam4mllm.targets.run import search_targets
from sam4mllm.training.config.finetune import FinetuneConfig
from sam4mllm.training.dataset.mixture import DataSource, Mixture
from sam4mllm.training.run import run as finetune
from tiny_models.lessons import naming

TEST, PLACES = 100, 3
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "tiny"
PPG = load(RECIPES / "ppg.yaml", Demo, ["train_scenes=2000", "training.max_steps=700"])
LEVEL = Level(objects=PPG.objects)
# same scenes and boxes; PQPP's own search differs only in points, which PQPP does not output
PQPP = replace(load(RECIPES / "pqpp.yaml", Demo, ["training.max_steps=350"]), search=PPG.search)
MIXED = replace(
    PPG,
    rows=replace(PPG.rows, mixture=Mixture(ppg=1, pqpp=0.5, box=0.1), asked=PQPP.rows.asked),
    training=replace(PPG.training, max_steps=1050),
)
# the prompt still allows up to nine points, since the tiny tokenizer knows only that wording
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
    """One arm: its recipe, the weight of VQA conversations, the name of its targets, and the prompters to evaluate."""

    lesson: Demo
    talks: float = 0.0
    targets: str = "filtered"
    prompters: Mapping[str, dict[str, Option]] = field(default_factory=dict)


ARMS = {
    "ppg": Arm(PPG, prompters={"ppg": PPG.options["ppg"]}),
    "ppg-unfiltered": Arm(
        replace(PPG, search=replace(PPG.search, keep=PPG.search.candidates, least=0)),
        targets="unfiltered",
        prompters={"ppg": PPG.options["ppg"]},
    ),
    "ppg-4-points": Arm(FOUR, targets="four", prompters={"ppg": FOUR.options["ppg"]}),
    "pqpp": Arm(PQPP, prompters=GRIDS),
    "pqpp-vqa": Arm(
        replace(PQPP, training=replace(PQPP.training, max_steps=400)), talks=0.2, prompters={"pqpp": GRIDS["pqpp"]}
    ),
    "mixed": Arm(MIXED, prompters={"ppg": PPG.options["ppg"], "pqpp": GRIDS["pqpp"]}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"arms to run, of {', '.join(ARMS)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("out/ablations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    if unknown := set(options.arms) - set(ARMS):
        parser.error(f"unknown arm {min(unknown)}: choose from {', '.join(ARMS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arms = options.arms or list(ARMS)
    scores_by_arm = {"base": [measure(options.out, "base", 0)]}
    scores_by_arm |= {arm: [measure(options.out, arm, seed) for seed in options.seeds] for arm in arms}
    print(table(scores_by_arm))


def measure(out: Path, name: str, seed: int) -> dict[str, list[float]]:
    """cIoU on all and on ambiguous expressions by prompter; the key ``naming`` has the naming accuracy."""
    folder = out / f"{name}-{seed}"
    cache_file = folder / "found.json"
    if cache_file.exists():
        scores: dict[str, list[float]] = json.loads(cache_file.read_text(encoding="utf-8"))
        return scores
    arm = ARMS.get(name)
    adapter = None if arm is None else train_adapter(out, arm, seed, folder / "adapter")
    mllm = MLLMSpec("tiny", adapter=adapter, device="cpu").load()
    test, segmenter = write_scenes(out / "shapes", "test", TEST, LEVEL), SegmenterSpec("tiny", device="cpu").load()
    prompters: Mapping[str, dict[str, Option]] = {"box": {}, **(arm.prompters if arm else {"pqpp": GRIDS["pqpp"]})}
    scores = {"naming": [names(mllm)]}
    for way, settings in prompters.items():
        file = folder / f"{way.replace(' ', '_').replace(',', '')}.jsonl"
        predict(test, Pipeline(PrompterSpec(way.split(",")[0], settings).load(mllm), segmenter), file, batch_size=32)
        scores[way] = ciou(list(test), list(read_predictions(file)))
        logging.info("%s %s: %s", folder.name, way, scores[way])
    write_text(cache_file, json.dumps(scores))
    return scores


def train_adapter(out: Path, arm: Arm, seed: int, adapter: Path) -> str:
    """The folder of an arm's adapter, which is trained if it does not exist."""
    if not (adapter / "sam4mllm.json").exists():
        finetune(recipe_of(out, arm, seed, adapter))
    return str(adapter)


def recipe_of(out: Path, arm: Arm, seed: int, adapter: Path) -> FinetuneConfig:
    """The configuration that trains an arm's adapter; missing scenes, targets and conversations are created."""
    samples, folder = (
        write_scenes(out / "shapes", "train", arm.lesson.train_scenes, LEVEL),
        out / f"targets-{arm.targets}",
    )
    search_targets(samples, folder, arm.lesson.seeded_search, "tiny", InProcess("cpu"), progress)
    sources = [DataSource(str(out / "shapes" / "train"), str(folder))]
    if arm.talks:
        sources.append(DataSource(talks=str(talks(out, arm.lesson.train_scenes)), weight=arm.talks))
    training, rows = replace(arm.lesson.training, seed=seed), replace(arm.lesson.rows, seed=seed)
    return FinetuneConfig(str(adapter), "tiny", tuple(sources), training, device="cpu", rows=rows)


def talks(out: Path, scenes: int) -> Path:
    """A dataset of questions about the object at a few locations of each train scene, without masks."""
    folder, dialect = out / "talks", MLLMSpec("tiny", device="cpu").load().dialect
    if not (folder / "talks.json").exists():
        conversations = []
        for index in range(scenes):
            drawing, rng = draw_split("train", index, LEVEL), np.random.default_rng([1, index])
            height, width, _ = drawing.image.shape
            for place in range(PLACES):
                name, turns = f"train/{index:06d}.png", tuple(naming(drawing, dialect, rng))
                conversations.append(
                    Conversation(f"naming-{index:06d}-{place}", name, width, height, turns, "naming", "train")
                )
        write_conversations(conversations, folder, (out / "shapes" / "images").absolute())
    return folder


def names(mllm: MLLM) -> float:
    """The share of locations in the test scenes that the model names correctly."""
    right = 0
    for start in range(0, TEST, 50):
        drawings = [draw_split("test", index, LEVEL) for index in range(start, min(start + 50, TEST))]
        streams = [np.random.default_rng([2, start + row]) for row in range(len(drawings))]
        for _ in range(PLACES):
            questions = [naming(drawing, mllm.dialect, rng) for drawing, rng in zip(drawings, streams, strict=True)]
            replies = mllm.open([drawing.image for drawing in drawings]).answer(
                [question.text for question, _ in questions]
            )
            right += sum(reply.text == expected.text for reply, (_, expected) in zip(replies, questions, strict=True))
    return right / (TEST * PLACES)


def ciou(samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[float]:
    ambiguous = {sample.id for sample in samples if sample.id.endswith(AMBIGUOUS)}
    subset = [sample for sample in samples if sample.id in ambiguous]
    answers = [prediction for prediction in predictions if prediction.id in ambiguous]
    return [score(*pair, "rela").metrics["cIoU"] for pair in ((samples, predictions), (subset, answers))]


def table(scores_by_arm: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> str:
    lines = ["| recipe | prompter | cIoU, all | cIoU, ambiguous |", "|---|---|---:|---:|"]
    for name, runs in scores_by_arm.items():
        for way in (key for key in runs[0] if key != "naming"):
            columns = [_spread([run[way][which] for run in runs]) for which in (0, 1)]
            lines.append(f"| {name} | {way} | {' | '.join(columns)} |")
    lines += ["", "| recipe | naming accuracy |", "|---|---:|"]
    lines += [f"| {name} | {_spread([run['naming'][0] for run in runs])} |" for name, runs in scores_by_arm.items()]
    return "\n".join(lines)


def _spread(shares: Sequence[float]) -> str:
    """The mean in percent; with several seeds also the standard deviation and each value."""
    values = ", ".join(f"{100 * share:.1f}" for share in shares)
    return f"{100 * fmean(shares):.1f} ± {100 * stdev(shares):.1f} ({values})" if len(shares) > 1 else values


if __name__ == "__main__":
    main()
