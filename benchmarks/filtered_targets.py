"""The effect of the target filter: mean IoU of masks segmented from all candidate prompts and from the filtered ones.

Uses COCO photos and masks (see `benchmarks/oracle.py` for their location), and all figures of the `shapes` test split.
The IoU of a mask is the mean over its prompts. The last three columns cover only masks with a kept
prompt, to separate the filter's effect on prompts from its effect on masks.

    python benchmarks/filtered_targets.py [--limit 150] [--scenes 60] [--candidates 16] [--keep 4] [--least 0.5]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from oracle import _photos

from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Image, Mask
from sam4mllm.geometry.rle import Rle
from sam4mllm.segmenters import Segmenter
from sam4mllm.segmenters.load import SegmenterSpec
from sam4mllm.synthetic import draw_split
from sam4mllm.targets.record import Target
from sam4mllm.targets.search import Search, image_targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("SAM4MLLM_TEST_DATA", default_data)) / "coco_real"
    )
    parser.add_argument("--limit", type=int, default=150, help="number of photo masks, selected at random")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--least", type=float, default=0.5)
    options = parser.parse_args()
    search = Search(candidates=options.candidates, keep=options.keep, least=options.least)
    print(
        "| | masks | masks without a kept prompt | all candidates, all masks | all candidates | kept | best of each |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    drawings = [draw_split("test", index) for index in range(options.scenes)]
    figures = [(drawing.image, figure.mask) for drawing in drawings for figure in drawing.figures]
    row("shapes, `tiny`", figures, SegmenterSpec("tiny", device="cpu").load(), search)
    if (options.data / "instances.json").is_file():
        photos = [(case.image, case.mask) for case in _photos(options.data, options.limit, 0)]
        row("COCO photos, `grabcut`", photos, SegmenterSpec("grabcut").load(), search)
    else:
        print(f"no photos at {options.data}; give --data or set SAM4MLLM_TEST_DATA")


def row(name: str, cases: Iterable[tuple[Image, Mask]], segmenter: Segmenter, search: Search) -> None:
    everything = replace(search, keep=search.candidates, least=0.0)
    targets: list[Target] = []
    for number, (image, mask) in enumerate(cases):
        sample = Sample(str(number), "x.png", mask.shape[1], mask.shape[0], "it", (Rle.from_mask(mask),))
        targets += image_targets(image, [sample], segmenter, everything)
    kept_ious = [[score for score in target.ious if score >= search.least][: search.keep] for target in targets]
    nonempty = [ious for ious in kept_ious if ious]
    empty_count = len(targets) - len(nonempty)
    filtered = [target.ious for target, ious in zip(targets, kept_ious, strict=True) if ious]
    means = (
        fmean(fmean(target.ious) for target in targets),
        fmean(map(fmean, filtered)),
        fmean(map(fmean, nonempty)),
        fmean(ious[0] for ious in nonempty),
    )
    figures = " | ".join(f"{100 * mean:.1f}" for mean in means)
    print(f"| {name} | {len(targets)} | {empty_count} ({empty_count / len(targets):.1%}) | {figures} |", flush=True)


if __name__ == "__main__":
    main()
