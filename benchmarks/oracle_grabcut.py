"""How well GrabCut redraws real masks from true prompts: the box alone, with random clicks, with the best of 8 sets.

Photos and masks are COCO's: a folder with `instances.json` and `images/`, found at $SAM4MLLM_TEST_DATA/coco_real, else
at ../shared/data/coco_real beside the checkout. Every mask of at least 32 x 32 pixels counts, crowds too.

    python benchmarks/oracle_grabcut.py [--limit 120] [--out sheet.png]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from sam4mllm.draw import overlay
from sam4mllm.geometry import Image, Mask, Prompt, iou
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters import Query
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.rle import Rle
from sam4mllm.segmenter.grabcut import GrabCutSegmenter
from sam4mllm.targets import best, candidates

LEAST_AREA = 32 * 32
CLICKS = 3
SETS = 8
SHEET = 24
WAYS = ("box alone", f"box + {CLICKS} + {CLICKS} random clicks", f"box + the best of {SETS} random sets")


@dataclass(frozen=True, slots=True)
class Case:
    """One true mask of one photo, and the prompts to try, one for each of `WAYS`."""

    image: Image
    mask: Mask
    prompts: tuple[Prompt, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SAM4MLLM_TEST_DATA", beside)) / "coco_real")
    parser.add_argument("--limit", type=int, help="how many masks, drawn at random; all by default")
    parser.add_argument("--out", type=Path, help=f"where to draw {SHEET} of the masks, one row for each way")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.data / "instances.json").is_file():
        print(f"no photos at {options.data}; give --data or set SAM4MLLM_TEST_DATA")
        return
    rng = np.random.default_rng(options.seed)
    annotations = [a for a in _annotations(options.data) if a["area"] >= LEAST_AREA]
    annotations = [annotations[index] for index in rng.permutation(len(annotations))[: options.limit]]
    sums, tiles = np.zeros((len(WAYS), 4)), []
    for case in _cases(options.data, annotations, rng):
        drawn = [_draw(case, prompt) for prompt in case.prompts]
        sums += [[*_counts(mask, case.mask), iou(mask, case.mask), seconds] for mask, seconds in drawn]
        if len(tiles) < SHEET:
            tiles.append(_tile(case, [mask for mask, _ in drawn]))
    _report(sums, len(annotations))
    if options.out:
        cv2.imwrite(str(options.out), cv2.cvtColor(_sheet(tiles), cv2.COLOR_RGB2BGR))


def _annotations(folder: Path) -> list[dict]:
    """COCO's annotations, each with its picture's file and size."""
    instances = json.loads((folder / "instances.json").read_text())
    images = {image["id"]: image for image in instances["images"]}
    return [
        {**a, **{key: images[a["image_id"]][key] for key in ("file_name", "height", "width")}}
        for a in instances["annotations"]
    ]


def _cases(folder: Path, annotations: Sequence[dict], rng: np.random.Generator) -> Iterator[Case]:
    for annotation in annotations:
        image = cv2.cvtColor(cv2.imread(str(folder / "images" / annotation["file_name"])), cv2.COLOR_BGR2RGB)
        mask = Rle.from_coco(annotation["segmentation"], annotation["height"], annotation["width"]).mask
        sets = candidates(mask, SETS, positive=CLICKS, negative=CLICKS, rng=rng)
        [(chosen, _)] = best(GrabCutSegmenter().embed(image), mask, sets)
        yield Case(image, mask, (Prompt(sets[0].box), sets[0], chosen))


def _draw(case: Case, prompt: Prompt) -> tuple[Mask, float]:
    """The mask that the whole pipeline makes of a known prompt, and the seconds it took."""
    start = perf_counter()
    [answer] = Pipeline(Oracle({"this": (prompt,)}), GrabCutSegmenter()).many([Query(case.image, "it", key="this")])
    return answer.mask, perf_counter() - start


def _counts(drawn: Mask, true: Mask) -> tuple[int, int]:
    return int((drawn & true).sum()), int((drawn | true).sum())


def _report(sums: np.ndarray, masks: int) -> None:
    print(f"{masks} masks of at least 32 x 32 pixels, {'cIoU':>8} {'mIoU':>6} {'ms a mask':>10}")
    for way, (intersection, union, mean, seconds) in zip(WAYS, sums, strict=True):
        print(f"{way:41} {intersection / union:8.3f} {mean / masks:6.3f} {1000 * seconds / masks:10.1f}")


def _tile(case: Case, drawn: Sequence[Mask]) -> Image:
    """The true mask over the drawn ones, as wide as they are."""
    rows = [overlay(case.image, (), (case.mask,))]
    rows += [overlay(case.image, (prompt,), (mask,)) for prompt, mask in zip(case.prompts, drawn, strict=True)]
    return np.concatenate([cv2.resize(row, (240, 200), interpolation=cv2.INTER_AREA) for row in rows])


def _sheet(tiles: Sequence[Image]) -> Image:
    columns = 8
    blank = np.zeros_like(tiles[0])
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.concatenate([np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)])


if __name__ == "__main__":
    main()
