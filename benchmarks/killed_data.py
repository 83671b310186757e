"""`make data` killed at random moments, and run again to its end: the bytes must be those of a run left alone.

Two sets are converted by the command behind `make data`: a generated one in REFER's layout (see `refer_scale.py`), and
objects of COCO's form that measure on some of its pictures, which are then taken out of the first set's training split.
Each run is ended by `kill -9` at a random moment: one half of them while files are written, which is the shorter part,
the other at any moment that the undisturbed run took; and every other one converts into the folder of a finished run.
After each the command is run to its end. Exits with 1 if a byte differs, or if fewer kills landed than were asked for.

    python benchmarks/killed_data.py [--kills 20] [--refs 5000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import time

from killing import check_same, is_killed, land, whole_run
from refer_scale import generate

Span = tuple[float, float]
SQUARE = [[100, 100, 200, 100, 200, 180, 100, 180]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--refs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "raw", options.refs)
        measure(folder / "raw")
        words = [sys.executable, "-m", "data_prep.every", "--root", str(folder / "raw"), "--partial", "--out"]
        start = time()
        seconds = whole_run([*words, str(folder / "whole")])
        written = [path.stat().st_mtime - start for path in files(folder / "whole")]
        print(f"{options.refs:,} refs, undisturbed {seconds:.1f} s, written from {min(written):.1f} s on", flush=True)
        spans = (min(written), max(written)), (0.0, seconds)
        disturb(words, folder / "out", folder / "whole", spans, options.kills, random.Random(options.seed))
    print("the same bytes each time")


def measure(root: Path) -> None:
    """Objects of COCO's form, on every tenth picture of the first set, in a val split."""
    images = json.loads((root / "refcoco" / "instances.json").read_bytes())["images"][::10]
    things = [{"id": one["id"], "image_id": one["id"], "phrase": "a thing", "segmentation": SQUARE} for one in images]
    (root / "coco").mkdir()
    (root / "coco" / "instances_val.json").write_text(json.dumps({"images": images, "annotations": things}))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def disturb(
    words: list[str], out: Path, whole: Path, spans: Sequence[Span], kills: int, moments: random.Random
) -> None:
    """Kill, run to the end, compare, so many times; moments come from the spans in turns."""

    def attempt(landed: int) -> str | None:
        shutil.rmtree(out, ignore_errors=True)
        anew = landed % 2 == 0
        if not anew:
            shutil.copytree(whole, out)
        moment = moments.uniform(*spans[landed // 2 % len(spans)])
        if not is_killed([*words, str(out)], moment):
            return None
        there = len(files(out))
        whole_run([*words, str(out)])
        check_same(out, whole)
        return f"after {moment:.2f} s, {f'{there} of {len(files(whole))} files' if anew else 'in a finished folder'}"

    land(kills, attempt)


if __name__ == "__main__":
    main()
