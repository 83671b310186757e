"""`sam4mllm predict` killed at random moments, then run to its end: the bytes must be those of a run left alone.

Every run but the last is ended by `kill -9` at a moment drawn from the time that the undisturbed run took, some on two
workers and some as one of two shards; what is found done is done once. At the end no file of a shard is left. Prints
how many predictions each killed run left, and exits with 1 if a byte differs.

    python benchmarks/killed_predict.py [--kills 20] [--scenes 900] [--prompter oracle] [--mllm tiny] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from killing import is_killed, whole_run

from sam4mllm.prediction_files import shard_files
from sam4mllm.shapes import Level
from sam4mllm.tiny.demo import write_scenes

WAYS = ([], ["--workers", "2"], ["--shard", "1/2"], ["--shard", "2/2"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--scenes", type=int, default=900)
    parser.add_argument("--prompter", default="oracle")
    parser.add_argument("--mllm", default="")
    parser.add_argument("--segmenter", default="grabcut")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "shapes", "test", options.scenes, Level())
        words = [sys.executable, "-m", "sam4mllm.cli", "predict", str(folder / "shapes" / "test"), "--device", "cpu"]
        words += ["--segmenter", options.segmenter, "--prompter", options.prompter]
        words += ["--batch-size", str(options.batch_size), *(["--mllm", options.mllm] if options.mllm else []), "--out"]
        whole, out = folder / "whole.jsonl", folder / "out" / "p.jsonl"
        seconds = whole_run([*words, str(whole)])
        many = whole.read_bytes().count(b"\n")
        killed = disturb([*words, str(out)], out, many, options.kills, seconds, random.Random(options.seed))
        whole_run([*words, str(out)])
        left = sorted(path.name for path in out.parent.iterdir() if path.suffix == ".jsonl")
        same = out.read_bytes() == whole.read_bytes() and left == ["p.jsonl", "p.timings.jsonl"]
        print(f"{killed} kills; {many} predictions, {whole.stat().st_size} bytes; undisturbed {seconds:.1f} s")
    print("the same bytes" if same else f"OTHER BYTES, or other files: {', '.join(left)}")
    raise SystemExit(not same or killed < options.kills)


def disturb(words: list[str], out: Path, many: int, kills: int, whole: float, moments: random.Random) -> int:
    """Start and kill, each run a bounded while, until so many are killed or all is done; returns how many were."""
    killed = 0
    while killed < kills and done(out) < many:
        way, moment = moments.choice(WAYS), moments.uniform(0, 1.5 * whole / kills + 1.5)
        if is_killed([*words, *way], moment):
            killed += 1
            print(
                f"kill {killed} after {moment:.2f} s, {' '.join(way) or 'alone'}: {done(out)} predictions", flush=True
            )
    return killed


def done(out: Path) -> int:
    """How many samples the files of the whole and of the shards hold, each once."""
    lines = [line for file in (out, *shard_files(out)) if file.exists() for line in file.read_bytes().splitlines(True)]
    return len({line for line in lines if line.endswith(b"\n")})


if __name__ == "__main__":
    main()
