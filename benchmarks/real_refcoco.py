"""Real photos, RefCOCO sentences and masks through predict and score, with recorded replies and GrabCut.

Runs no MLLM: the replies are generated from the ground truth (box, 3 positive and 3 negative points), in another
dialect for each dataset. The table has two rows per dataset: all replies intact, and every second reply damaged by one
of `DAMAGES`. The data has REFER's layout and is read from $SAM4MLLM_TEST_DATA/refcoco_real, by default
../shared/data/refcoco_real next to the checkout.

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
from sam4mllm.language.templates import format_prompts
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import predict
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.ppg import PPG
from sam4mllm.segmenters.grabcut import GrabCutSegmenter

# coordinates in thousandths, in pixels, and in 1024 bins with y before x
DIALECT_OF: Mapping[str, str] = {"refcoco": "sam4mllm", "refcoco+": "qwen2.5-vl", "refcocog": "paligemma"}


def cut(reply: str) -> str:
    """A reply that the token limit cut off after its box."""
    return reply[: len(reply) * 2 // 3]


def cut_short(reply: str) -> str:
    """A reply that the token limit cut off within its box."""
    return reply[: len(reply) // 10]


def in_prose(reply: str) -> str:
    """A reply in a code fence, with text around it."""
    return f"Sure! Here is what you asked for:\n```\n{reply}\n```\nLet me know if I can help with anything else."


def swapped(reply: str) -> str:
    """A reply with the lower right corner before the upper left corner."""
    numbers = list(re.finditer(r"(?<![\d_])\d+", reply))[:4]
    parts, end = [], 0
    for match, other in zip(numbers, [*numbers[2:], *numbers[:2]], strict=True):
        parts += [reply[end : match.start()], other[0]]
        end = match.end()
    return "".join(parts) + reply[end:]


def nonsense(reply: str) -> str:  # noqa: ARG001  the signature of a damage
    """A reply without coordinates."""
    return "I am afraid I see several things that this could mean."


DAMAGES: tuple[Callable[[str], str], ...] = (cut, cut_short, in_prose, swapped, nonsense)


def make_replies(samples: Sequence[Sample], dialect: Dialect, damaged: bool) -> list[str]:
    """One reply per sample from its ground truth; ``damaged`` applies `DAMAGES` in turn to every second reply."""
    rng = np.random.default_rng(0)
    replies = []
    for number, sample in enumerate(samples):
        mask, box = sample.ground_truth.mask, sample.ground_truth.box
        prompts = [Prompt(box, clicks(mask, box, 3, 3, rng))] if box else []
        reply = format_prompts(prompts, sample.phrase, dialect, Frame.unscaled(sample.width, sample.height))
        replies.append(DAMAGES[number // 2 % len(DAMAGES)](reply) if damaged and number % 2 else reply)
    return replies


def run(data: Path, dataset: str, folder: Path, damaged: bool) -> tuple[SampleSet, list[Prediction], Scores]:
    """Runs a dataset from raw files to scores; the files of every stage stay in ``folder``."""
    splits = prepare(data, dataset).splits
    write_samples([sample for part in splits.values() for sample in part], folder / "samples", image_root(data))
    samples = read_samples(folder / "samples")
    dialect = DIALECTS[DIALECT_OF[dataset]]
    recording = folder / "recording.jsonl"
    recorded = zip(samples, make_replies(samples.samples, dialect, damaged), strict=True)
    recording.write_text(
        "".join(f"{json.dumps({'id': sample.id, 'replies': [reply]})}\n" for sample, reply in recorded)
    )
    pipeline = Pipeline(PPG(ScriptedMLLM.replay(recording, dialect.name)), GrabCutSegmenter())
    predict(samples, pipeline, folder / "predictions.jsonl")
    predictions = read_predictions(folder / "predictions.jsonl")
    return samples, predictions, score(samples.samples, predictions, "lavt")


def draw(samples: SampleSet, predictions: Sequence[Prediction], path: Path) -> None:
    """Writes all answers to one sheet, with the beginning of each reply as caption."""
    tiles = []
    for sample, prediction in zip(samples, predictions, strict=True):
        reply_text = " ".join(prediction.replies[0].text.split())
        caption = f"{sample.phrase} <- {reply_text[:40]}"
        tiles.append(overlay(read_image(samples.path(sample)), prediction.prompts, [prediction.mask.mask], caption))
    write_png(path, contact_sheet(tiles, columns=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SAM4MLLM_TEST_DATA", default_data)) / "refcoco_real"
    )
    parser.add_argument("--out", type=Path, help="folder for the files of every stage and sheets of overlays")
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
