"""Time and peak memory of converting a dataset of RefCOCO's size, compared with REFER's own loop over masks.

The dataset is generated in a temporary folder and deterministic: 50,000 refs, 142,000 sentences, 20,000 images (links
to one JPEG, since only headers are read) and 200,000 objects with polygons of 12 to 40 corners; a quarter of the
objects have refs. The plain loop does what REFER's reader does for each sentence: convert polygons to run lengths,
decode, sum and count. It is timed on a part of the sentences and scaled up, without reading and writing files.

    python benchmarks/refer_scale.py [--refs 50000] [--plain 4000]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import PIL.Image
from pycocotools import mask as coco

SIZE = 640, 480
OBJECTS = 10  # per image
WORDS = (
    "left",
    "right",
    "man",
    "woman",
    "the",
    "in",
    "red",
    "blue",
    "shirt",
    "dog",
    "chair",
    "closest",
    "sitting",
    "bus",
)


def generate(root: Path, refs: int) -> None:
    """Writes the dataset to ``root``, with five refs per two images and 2.84 sentences per ref on average."""
    rng = np.random.default_rng(0)
    image_count = refs * 2 // 5
    folder = root / "images" / "train2014"
    folder.mkdir(parents=True)
    (root / "refcoco").mkdir()
    first = folder / _file(0)
    PIL.Image.new("RGB", SIZE).save(first)
    for number in range(1, image_count):
        (folder / _file(number)).hardlink_to(first)
    (root / "refcoco" / "instances.json").write_text(json.dumps(_instances(image_count, rng)))
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(_refs(refs, rng), protocol=2))


def convert(root: Path, out: Path) -> tuple[float, float]:
    """Runs the real command; returns its seconds and peak resident memory in MB."""
    arguments = ["-m", "sam4mllm.cli", "data", "refcoco", "--root", str(root), "--out", str(out), "--partial"]
    start = perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=Path(__file__).resolve().parents[1])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the conversion failed")
    return perf_counter() - start, used.ru_maxrss / 1024


def plain(root: Path, sentences: int) -> float:
    """The plain loop's seconds per sentence."""
    document = json.loads((root / "refcoco" / "instances.json").read_bytes())
    annotations = {annotation["id"]: annotation for annotation in document["annotations"]}
    refs = pickle.loads((root / "refcoco" / "refs(unc).p").read_bytes())
    ann_ids = [ref["ann_id"] for ref in refs for _ in ref["sentences"]][:sentences]
    start = perf_counter()
    for ann_id in ann_ids:
        layers = coco.decode(coco.frPyObjects(annotations[ann_id]["segmentation"], SIZE[1], SIZE[0]))
        int((layers.sum(axis=2) > 0).sum())
    return (perf_counter() - start) / len(ann_ids)


def _file(number: int) -> str:
    return f"COCO_train2014_{number + 1:012}.jpg"


def _instances(image_count: int, rng: np.random.Generator) -> dict[str, Any]:
    width, height = SIZE
    images = [
        {"id": number + 1, "file_name": _file(number), "width": width, "height": height}
        for number in range(image_count)
    ]
    annotations = [
        {
            "id": number + 1,
            "image_id": number // OBJECTS + 1,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": [_polygon(rng)],
        }
        for number in range(image_count * OBJECTS)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}


def _polygon(rng: np.random.Generator) -> list[float]:
    """A rough blob within the image."""
    corners = int(rng.integers(12, 41))
    angles = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    radii = rng.uniform(20, 110) * rng.uniform(0.7, 1.3, corners)
    x = np.clip(rng.uniform(50, SIZE[0] - 50) + radii * np.cos(angles), 0, SIZE[0])
    y = np.clip(rng.uniform(50, SIZE[1] - 50) + radii * np.sin(angles), 0, SIZE[1])
    return [round(value, 2) for value in np.stack([x, y], axis=1).ravel().tolist()]


def _refs(count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    lengths = rng.integers(1, 8, size=4 * count)
    chosen = rng.integers(len(WORDS), size=int(lengths.sum()))
    vocabulary = iter([WORDS[index] for index in chosen])
    refs, sent_id = [], 0
    for number in range(count):
        image_index, place = number * 2 // 5, number % 5
        sentence_count = 3 if number % 25 > 3 else 2  # 2.84 on average
        sentences = []
        for _ in range(sentence_count):
            tokens = [next(vocabulary) for _ in range(lengths[sent_id])]
            sentence_text = " ".join(tokens)
            sentences.append({"tokens": tokens, "raw": sentence_text, "sent_id": sent_id, "sent": sentence_text})
            sent_id += 1
        refs.append(
            {
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "file_name": _file(image_index),
                "ann_id": image_index * OBJECTS + place + 1,
                "ref_id": number,
                "image_id": image_index + 1,
                "split": ("val", "testA", "testB")[image_index % 3] if image_index % 20 < 3 else "train",
                "sentences": sentences,
                "category_id": 1,
            }
        )
    return refs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refs", type=int, default=50_000)
    parser.add_argument("--plain", type=int, default=4_000, help="number of sentences to time the plain loop on")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # raised by pycocotools' decode
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        generate(root, options.refs)
        seconds, megabytes = convert(root, Path(folder) / "out")
        plain_seconds = plain(root, options.plain)
        report = json.loads((Path(folder) / "out" / "report.json").read_text())
    sentences = sum(part["sentences"] for part in report["splits"].values())
    print(f"\n{options.refs:,} refs, {sentences:,} sentences: {seconds:.1f} s, {megabytes:,.0f} MB at the peak")
    print(
        f"the plain loop's masks alone: {plain_seconds * sentences:.1f} s ({1000 * plain_seconds:.2f} ms per sentence)"
    )
    print(f"ratio {plain_seconds * sentences / seconds:.1f}")


if __name__ == "__main__":
    main()
