"""The gain of `sam4mllm calibrate`: PQPP with the tiny adapter, calibrated on val and tested on test `shapes` scenes.

    python benchmarks/calibration.py [--scenes 100] [--objects 2 3] [--points 9 16 25]

Works on a copy of the embedded PQPP adapter, so that its card does not change. Prints the table of the command,
and the seconds that the survey and the segmentation took.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sam4mllm.config import PipelineConfig
from sam4mllm.evaluation.calibration.choice import SearchSpace
from sam4mllm.evaluation.calibration.run import calibrate
from sam4mllm.prompters.points import LAYOUTS, Layout
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100, help="scenes per split")
    parser.add_argument("--objects", type=int, nargs=2, default=[2, 3])
    parser.add_argument("--points", type=int, nargs="+", default=[9, 16, 25])
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, level = Path(name), Level(objects=tuple(options.objects))
        for split in ("val", "test"):
            write_scenes(folder / split, split, options.scenes, level)
        shutil.copytree(EMBEDDED / "pqpp", folder / "adapter")
        recipe = PipelineConfig(mllm="tiny", adapter=str(folder / "adapter"), segmenter="tiny", device="cpu")
        search_space = SearchSpace(
            tuple(Layout(layout, points) for layout in options.layouts for points in options.points)
        )
        val, test = folder / "val" / "val", folder / "test" / "test"
        calibrated = calibrate(recipe, search_space, val, None, 16, timed, test)
    print(calibrated.format_table(), end="")
    print(
        f"{calibrated.counts['samples']} validation expressions, {calibrated.counts['masks']} masks segmented for them"
    )
    print("\n".join(calibrated.warnings))


@contextmanager
def timed(steps: int, what: str) -> Iterator[Callable[..., None]]:
    start = perf_counter()
    yield lambda *_: None
    print(f"{steps} {what} in {perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
