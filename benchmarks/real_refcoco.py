"""Real photos, RefCOCO sentences and masks through predict and score, with recorded replies and GrabCut.

No model talks: the replies are written from the true masks (box, 3 points on the object, 3 off it), each set's in
another dialect, and every second one is then damaged in one of `DAMAGES`. Two rows a set, all replies intact and half
of them damaged. The data has REFER's layout: $SAM4MLLM_TEST_DATA/refcoco_real, else ../shared/data/refcoco_real beside
the checkout.

    python benchmarks/real_refcoco.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sam4mllm.data.samples import Sample, SampleSet, read_samples, write_samples
from sam4mllm.data_prep.formats.refer import image_root
from sam4mllm.data_prep.readers.refcoco import prepare
from sam4mllm.evaluation.scores import Scores, score, table
from sam4mllm.geometry.prompts import Frame, Prompt
from sam4mllm.geometry.sampling import clicks
from sam4mllm.images.files import read_image, write_png
from sam4mllm.images.overlay import contact_sheet, overlay
from sam4mllm.language.dialects import DIALECTS
from sam4mllm.language.notation import Dialect
from sam4mllm.language.templates import say_prompts
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.ppg import PPG
from sam4mllm.segmenters.grabcut import GrabCutSegmenter

# thousandths of the picture, its pixels, and 1024 bins with y before x
DIALECT_OF: Mapping[str, str] = {"refcoco": "sam4mllm", "refcoco+": "qwen2.5-vl", "refcocog": "paligemma"}


def cut(reply: str) -> str:
    """A reply that met the token limit, some way after its box."""
    return reply[: len(reply) * 2 // 3]


def cut_short(reply: str) -> str:
    """A reply that met the token limit within its box."""
    return reply[: len(reply) // 10]


def in_prose(reply: str) -> str:
    """A talkative reply, fenced."""
    return f"Sure! Here is what you asked for:\n```\n{reply}\n```\nLet me know if I can help with anything else."


def swapped(reply: str) -> str:
    """The lower right corner before the upper left one."""
    numbers = list(re.finditer(r"(?<![\d_])\d+", reply))[:4]
    parts, end = [], 0
    for match, other in zip(numbers, [*numbers[2:], *numbers[:2]], strict=True):
        parts += [reply[end : match.start()], other[0]]
        end = match.end()
    return "".join(parts) + reply[end:]


def nonsense(reply: str) -> str:  # noqa: ARG001  the signature of a damage
    """No places at all."""
    return "I am afraid I see several things that this could mean."


DAMAGES: tuple[Callable[[str], str], ...] = (cut, cut_short, in_prose, swapped, nonsense)


def say(samples: Sequence[Sample], dialect: Dialect, damaged: bool) -> list[str]:
    """The reply about each sample, from its truth; every second one is damaged, if asked for, each in its turn."""
    rng = np.random.default_rng(0)
    replies = []
    for number, sample in enumerate(samples):
        mask, box = sample.truth.mask, sample.truth.box
        prompts = [Prompt(box, clicks(mask, box, 3, 3, rng))] if box else []
        reply = say_prompts(prompts, sample.phrase, dialect, Frame.whole(sample.width, sample.height))
        replies.append(DAMAGES[number // 2 % len(DAMAGES)](reply) if damaged and number % 2 else reply)
    return replies


def run(data: Path, dataset: str, folder: Path, damaged: bool) -> tuple[SampleSet, list[Prediction], Scores]:
    """One set from its raw files to its numbers; every stage's files stay in ``folder``."""
    splits = prepare(data, dataset).splits
    write_samples([sample for part in splits.values() for sample in part], folder / "samples", image_root(data))
    samples = read_samples(folder / "samples")
    dialect = DIALECTS[DIALECT_OF[dataset]]
    recording = folder / "recording.jsonl"
    spoken = zip(samples, say(samples.samples, dialect, damaged), strict=True)
    recording.write_text("".join(f"{json.dumps({'id': each.id, 'replies': [reply]})}\n" for each, reply in spoken))
    pipeline = Pipeline(PPG(ScriptedMLLM.replay(recording, dialect)), GrabCutSegmenter())
    predict(samples, pipeline, folder / "predictions.jsonl")
    predictions = read_predictions(folder / "predictions.jsonl")
    return samples, predictions, score(samples.samples, predictions, "lavt")


def draw(samples: SampleSet, predictions: Sequence[Prediction], path: Path) -> None:
    """All answers on one sheet, the reply's beginning under each."""
    tiles = []
    for sample, prediction in zip(samples, predictions, strict=True):
        said = " ".join(prediction.replies[0].text.split())
        caption = f"{sample.phrase} <- {said[:40]}"
        tiles.append(overlay(read_image(samples.path(sample)), prediction.prompts, [prediction.mask.mask], caption))
    write_png(path, contact_sheet(tiles, columns=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SAM4MLLM_TEST_DATA", beside)) / "refcoco_real"
    )
    parser.add_argument("--out", type=Path, help="where to keep every stage's files, and a sheet of overlays for each")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}; give --data or set SAM4MLLM_TEST_DATA")
        return
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dataset, dialect in DIALECT_OF.items():
            for damaged in (False, True):
                name = f"{dataset}, {dialect}, {'half damaged' if damaged else 'intact'}"
                folder = (options.out or Path(scratch)) / name.replace(", ", "-").replace(" ", "-")
                samples, predictions, rows[name] = run(options.data, dataset, folder, damaged)
                if options.out:
                    draw(samples, predictions, folder / "sheet.png")
    print(table(rows))


if __name__ == "__main__":
    main()
