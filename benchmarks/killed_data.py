"""`make data` killed at random moments, and run again to its end: the bytes must be those of a run left alone.

Two sets are converted by the command behind `make data`: a generated one in REFER's layout (see `refer_scale.py`), and
objects of COCO's form that measure on some of its pictures, which are then taken out of the first set's training split.
Each run is ended by `kill -9` at a random moment: every second one at any that the undisturbed run took, in the folder
of a finished run; the others, which begin with nothing, after the first file is there, as reading is the longer part.
After each the command is run to its end. Prints how many files were as they end up. Exits with 1 if a byte differs, or
if fewer kills landed than were asked for.

    python benchmarks/killed_data.py [--kills 20] [--refs 5000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from time import time

from killing import check_same, content, is_killed, land, whole_run
from refer_scale import generate

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
        words = [sys.executable, "-m", "sam4mllm.cli", "data", "all", "--partial"]
        words += ["--root", str(folder / "raw"), "--out"]
        start = time()
        seconds = whole_run([*words, str(folder / "whole")])
        reading = min((folder / "whole" / name).stat().st_mtime for name in content(folder / "whole")) - start
        print(f"{options.refs:,} refs, undisturbed {seconds:.1f} s, the first file after {reading:.1f} s", flush=True)
        disturb(words, folder, seconds, reading, options.kills, random.Random(options.seed))
    print("the same bytes each time")


def measure(root: Path) -> None:
    """Objects of COCO's form, on every tenth picture of the first set, in a val split."""
    images = json.loads((root / "refcoco" / "instances.json").read_bytes())["images"][::10]
    things = [{"id": one["id"], "image_id": one["id"], "phrase": "a thing", "segmentation": SQUARE} for one in images]
    (root / "coco").mkdir()
    (root / "coco" / "instances_val.json").write_text(json.dumps({"images": images, "annotations": things}))


def disturb(words: list[str], folder: Path, seconds: float, reading: float, kills: int, moments: random.Random) -> None:
    """Kill, run to the end, compare, so many times."""
    out, due = folder / "out", content(folder / "whole")

    def attempt(landed: int) -> str | None:
        shutil.rmtree(out, ignore_errors=True)
        if landed % 2:
            shutil.copytree(folder / "whole", out)
            killed = is_killed([*words, str(out)], moment := moments.uniform(0, seconds))
        else:
            moment = moments.uniform(0, seconds - reading)
            killed = is_killed([*words, str(out)], moment, begun=lambda: any(out.rglob("*.parquet")))
        if not killed:
            return None
        done = sum(data == due.get(name) for name, data in content(out).items())
        whole_run([*words, str(out)])
        check_same(out, folder / "whole")
        where = "in a finished folder" if landed % 2 else "after the first file"
        return f"after {moment:.2f} s {where}: {done} of {len(due)} files as they end up"

    land(kills, attempt)


if __name__ == "__main__":
    main()
