"""Kills `sam4mllm targets` at random moments and resumes it: the output must equal that of an uninterrupted run.

Every run except the last ends by `kill -9` at a random moment, mostly with two workers. Finished parts are kept.
If all parts are finished before enough kills landed, the output is compared and the search starts over. Prints how many
parts each killed run left. Exits with 1 if a byte differs, or if too few kills landed.

    python benchmarks/killed_targets.py [--kills 20] [--scenes 400] [--segmenter grabcut] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from killing import check_same, is_killed, land, whole_run

from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--segmenter", default="grabcut")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "shapes", "test", options.scenes, Level())
        command = [sys.executable, "-m", "sam4mllm.cli", "targets", str(folder / "shapes" / "test")]
        command += ["--segmenter", options.segmenter, "--device", "cpu", "--candidates", "8", "--out"]
        seconds = whole_run([*command, str(folder / "whole")])
        print(f"{options.scenes} scenes, undisturbed {seconds:.1f} s", flush=True)
        disturb(command, folder / "out", folder / "whole", seconds, options.kills, random.Random(options.seed))
        whole_run([*command, str(folder / "out")])
        check_same(folder / "out", folder / "whole")
    print("the same bytes")


def disturb(command: list[str], out: Path, reference: Path, seconds: float, kills: int, moments: random.Random) -> None:
    """Starts and kills runs; each resumes the previous one."""

    def attempt(_: int) -> str | None:
        if (out / "targets.json").exists():
            check_same(out, reference)
            shutil.rmtree(out)
        workers = ["--workers", str(moments.choice([1, 2, 2]))]
        moment = moments.uniform(0, 4 * seconds / kills + 1.5)
        if not is_killed([*command, str(out), *workers], moment):
            return None
        parts = len(list((out / "parts").glob("[0-9]*.json")))
        return f"after {moment:.2f} s, {' '.join(workers)}: {parts} parts done"

    land(kills, attempt)


if __name__ == "__main__":
    main()
