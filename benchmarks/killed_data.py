"""Kills `make data` at random moments and runs it again: the output must equal that of an uninterrupted run.

Converts two datasets: a generated one in REFER's layout (see `refer_scale.py`), and a COCO-style evaluation split that
shares some of its images, which are then removed from the first dataset's training split. Each run ends by `kill -9`.
Every second run starts in the folder of a finished run and is killed at any time; the others start from scratch and are
killed after the first file is written, since reading takes longer. After each kill the command runs to its end. Prints
how many files were already final. Exits with 1 if a byte differs, or if too few kills landed.

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
        command = [sys.executable, "-m", "sam4mllm.cli", "data", "all", "--partial"]
        command += ["--root", str(folder / "raw"), "--out"]
        start = time()
        seconds = whole_run([*command, str(folder / "whole")])
        reading = min((folder / "whole" / name).stat().st_mtime for name in content(folder / "whole")) - start
        print(f"{options.refs:,} refs, undisturbed {seconds:.1f} s, the first file after {reading:.1f} s", flush=True)
        disturb(command, folder, seconds, reading, options.kills, random.Random(options.seed))
    print("identical output after every kill")


def measure(root: Path) -> None:
    """Writes a COCO-style val split with one object on every tenth image of the first dataset."""
    images = json.loads((root / "refcoco" / "instances.json").read_bytes())["images"][::10]
    things = [
        {"id": image["id"], "image_id": image["id"], "phrase": "a thing", "segmentation": SQUARE} for image in images
    ]
    (root / "coco").mkdir()
    (root / "coco" / "instances_val.json").write_text(json.dumps({"images": images, "annotations": things}))


def disturb(
    command: list[str], folder: Path, seconds: float, reading: float, kills: int, moments: random.Random
) -> None:
    """Repeats ``kills`` times: kill a run, run the command to its end, compare the output."""
    out, expected = folder / "out", content(folder / "whole")

    def attempt(landed: int) -> str | None:
        shutil.rmtree(out, ignore_errors=True)
        if landed % 2:
            shutil.copytree(folder / "whole", out)
            killed = is_killed([*command, str(out)], moment := moments.uniform(0, seconds))
        else:
            moment = moments.uniform(0, seconds - reading)
            killed = is_killed([*command, str(out)], moment, started=lambda: any(out.rglob("*.parquet")))
        if not killed:
            return None
        done = sum(data == expected.get(name) for name, data in content(out).items())
        whole_run([*command, str(out)])
        check_same(out, folder / "whole")
        where = "in a finished folder" if landed % 2 else "after the first file"
        return f"after {moment:.2f} s {where}: {done} of {len(expected)} files already final"

    land(kills, attempt)


if __name__ == "__main__":
    main()
