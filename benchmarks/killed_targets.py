"""`sam4mllm targets` killed at random moments, then run to its end: the bytes must be those of a run left alone.

Every run but the last is ended by `kill -9` at a moment drawn from the time that the undisturbed run took, most often
on two workers; what is found done is done once. Prints how many parts each killed run left, and exits with 1 if a byte
differs.

    python benchmarks/killed_targets.py [--kills 20] [--scenes 400] [--segmenter grabcut] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from sam4mllm.shapes import Level
from sam4mllm.tiny.demo import write_scenes


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
        words = [sys.executable, "-m", "sam4mllm.cli", "targets", str(folder / "shapes" / "test")]
        words += ["--segmenter", options.segmenter, "--device", "cpu", "--candidates", "8", "--out"]
        start = perf_counter()
        subprocess.run([*words, folder / "whole"], check=True, stderr=subprocess.DEVNULL)
        whole = perf_counter() - start
        disturb([*words, str(folder / "out")], folder / "out", options.kills, whole, random.Random(options.seed))
        subprocess.run([*words, folder / "out"], check=True, stderr=subprocess.DEVNULL)
        same = content(folder / "out") == content(folder / "whole")
    print("the same bytes" if same else "OTHER BYTES")
    raise SystemExit(not same)


def disturb(words: list[str], out: Path, kills: int, whole: float, moments: random.Random) -> None:
    """Start and kill, each run a bounded while; one that is done before its moment counts as no kill."""
    killed = 0
    while killed < kills and not (out / "targets.json").exists():
        workers = ["--workers", str(moments.choice([1, 2, 2]))]
        moment = moments.uniform(0, 4 * whole / kills + 1.5)
        running = subprocess.Popen([*words, *workers], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sleep(moment)
        running.kill()
        if running.wait() == -signal.SIGKILL:
            killed += 1
            parts = len(list((out / "parts").glob("[0-9]*.json")))
            print(f"kill {killed} after {moment:.2f} s, {' '.join(workers)}: {parts} parts done")
    print(f"{killed} kills; undisturbed {whole:.1f} s")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
