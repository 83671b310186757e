"""How well segmenters reproduce ground-truth masks from oracle prompts: a box, random points, or the best of 8 sets.

Photos and masks come from COCO: a folder with `instances.json` and `images/` at $SAM4MLLM_TEST_DATA/coco_real, default
../shared/data/coco_real next to the checkout. All masks of at least 32 x 32 pixels are used, including crowds. Scenes
are those of the `shapes` test split, with all figures; "twins" are pairs of figures that share a box.

    python benchmarks/oracle.py [--segmenters grabcut tiny] [--limit 120] [--scenes 200] [--out folder]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from sam4mllm.geometry.prompts import Image, Mask, Prompt, iou
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import read_image, write_png
from sam4mllm.images.overlay import overlay
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters import Query
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import Level, draw_split
from sam4mllm.targets.search import Search, best, candidates
from tiny_models.sam import TWINS

LEAST_AREA = 32 * 32
CLICKS = 3
SETS = 8
SHEET = 24
WAYS = (
    "box alone",
    "box + 1 random click on it",
    f"box + {CLICKS} + {CLICKS} random clicks",
    f"box + the best of {SETS} random sets",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One ground-truth mask with its image."""

    image: Image
    mask: Mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SAM4MLLM_TEST_DATA", beside)) / "coco_real")
    parser.add_argument("--segmenters", nargs="+", default=["grabcut", "tiny"])
    parser.add_argument("--limit", type=int, help="number of photo masks, selected at random; default: all")
    parser.add_argument("--scenes", type=int, default=100, help="scenes of each kind")
    parser.add_argument(
        "--out", type=Path, help=f"folder for contact sheets of {SHEET} masks per dataset, one row per prompt type"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets = {"shapes": _scenes(options.scenes, None), "twins": _scenes(options.scenes, TWINS)}
    if (options.data / "instances.json").is_file():
        sets["photos"] = _photos(options.data, options.limit, options.seed)
    else:
        print(f"no photos at {options.data}; give --data or set SAM4MLLM_TEST_DATA")
    for name, cases in sets.items():
        for spec in options.segmenters:
            print(f"\n{name}, {spec}:")
            tiles = _measure(cases, SegmenterSpec(spec, device="cpu").load(), options.seed)
            if options.out:
                options.out.mkdir(parents=True, exist_ok=True)
                write_png(options.out / f"{name}-{spec}.png", _sheet(tiles))


def _scenes(count: int, level: Level | None) -> list[Case]:
    drawings = [draw_split("test", index, level) for index in range(count)]
    return [Case(drawing.image, figure.mask) for drawing in drawings for figure in drawing.figures]


def _photos(folder: Path, limit: int | None, seed: int) -> list[Case]:
    annotations = [a for a in _annotations(folder) if a["area"] >= LEAST_AREA]
    chosen = [annotations[index] for index in np.random.default_rng(seed).permutation(len(annotations))[:limit]]
    return [
        Case(
            read_image(folder / "images" / each["file_name"]),
            Rle.from_coco(each["segmentation"], each["height"], each["width"]).mask,
        )
        for each in chosen
    ]


def _measure(cases: Sequence[Case], segmenter: Segmenter, seed: int) -> list[Image]:
    rng, sums = np.random.default_rng(seed), np.zeros((len(WAYS), 4))
    tiles: list[Image] = []
    for case in cases:
        sets = candidates(case.mask, Search(SETS, positive=CLICKS, negative=CLICKS), rng)
        [one] = candidates(case.mask, Search(1, positive=1, negative=0), rng)
        [(chosen, _)] = best(segmenter.embed(case.image), case.mask, sets)
        prompts = (Prompt(one.box), one, sets[0], chosen)
        drawn = [_draw(case, prompt, segmenter) for prompt in prompts]
        sums += [[*_counts(mask, case.mask), iou(mask, case.mask), seconds] for mask, seconds in drawn]
        if len(tiles) < SHEET:
            tiles.append(_tile(case, prompts, [mask for mask, _ in drawn]))
    _report(sums, len(cases))
    return tiles


def _annotations(folder: Path) -> list[dict[str, Any]]:
    """COCO's annotations with the file name and size of their image."""
    instances = json.loads((folder / "instances.json").read_text())
    images = {image["id"]: image for image in instances["images"]}
    return [
        {**a, **{key: images[a["image_id"]][key] for key in ("file_name", "height", "width")}}
        for a in instances["annotations"]
    ]


def _draw(case: Case, prompt: Prompt, segmenter: Segmenter) -> tuple[Mask, float]:
    """The mask that the pipeline returns for a known prompt, and the seconds it took."""
    start = perf_counter()
    [answer] = Pipeline(Oracle({"this": (prompt,)}), segmenter).many([Query(case.image, "it", key="this")])
    return answer.mask, perf_counter() - start


def _counts(drawn: Mask, true: Mask) -> tuple[int, int]:
    return int((drawn & true).sum()), int((drawn | true).sum())


def _report(sums: np.ndarray, masks: int) -> None:
    print(f"{f'{masks} masks':41} {'cIoU':>8} {'mIoU':>6} {'ms a mask':>10}")
    for way, (intersection, union, mean, seconds) in zip(WAYS, sums, strict=True):
        print(f"{way:41} {intersection / union:8.3f} {mean / masks:6.3f} {1000 * seconds / masks:10.1f}")


def _tile(case: Case, prompts: Sequence[Prompt], drawn: Sequence[Mask]) -> Image:
    """A column of overlays: the ground truth, then each predicted mask."""
    rows = [overlay(case.image, (), (case.mask,))]
    rows += [overlay(case.image, (prompt,), (mask,)) for prompt, mask in zip(prompts, drawn, strict=True)]
    return np.concatenate([cv2.resize(row, (240, 200), interpolation=cv2.INTER_AREA) for row in rows])


def _sheet(tiles: Sequence[Image]) -> Image:
    columns = 8
    blank = np.zeros_like(tiles[0])
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.concatenate([np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)])


if __name__ == "__main__":
    main()
