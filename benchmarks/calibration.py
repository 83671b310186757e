"""What `sam4mllm calibrate` gains: PQPP of the tiny adapter, chosen on val scenes of `shapes`, measured on test ones.

    python benchmarks/calibration.py [--scenes 100] [--objects 2 3] [--points 9 16 25]

The adapter is a copy of PQPP's that comes with the package, so that its card is not written. Printed is the table of
the command, and the seconds that asking and drawing took.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sam4mllm.config import Recipe
from sam4mllm.evaluation.calibration.choice import Choice
from sam4mllm.evaluation.calibration.run import calibrate
from sam4mllm.prompters.points import LAYOUTS, Layout
from sam4mllm.runtime.specs import EMBEDDED
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100, help="of each split")
    parser.add_argument("--objects", type=int, nargs=2, default=[2, 3])
    parser.add_argument("--points", type=int, nargs="+", default=[9, 16, 25])
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, level = Path(name), Level(objects=tuple(options.objects))
        for split in ("val", "test"):
            write_scenes(folder / split, split, options.scenes, level)
        shutil.copytree(EMBEDDED / "pqpp", folder / "adapter")
        recipe = Recipe(mllm="tiny", adapter=str(folder / "adapter"), segmenter="tiny", device="cpu")
        choice = Choice(tuple(Layout(layout, points) for layout in options.layouts for points in options.points))
        val, test = folder / "val" / "val", folder / "test" / "test"
        found = calibrate(recipe, choice, val, None, 16, timed, test)
    print(found.format_table(), end="")
    print(f"{found.counts['samples']} expressions to choose on, {found.counts['masks']} masks drawn for them")
    print("\n".join(found.warnings))


@contextmanager
def timed(steps: int, what: str) -> Iterator[Callable[..., None]]:
    start = perf_counter()
    yield lambda *_: None
    print(f"{steps} {what} in {perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
