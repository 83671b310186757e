"""Kills `sam4mllm predict` at random moments and resumes it: the output must equal that of an uninterrupted run.

Every run except the last ends by `kill -9` at a random moment after its first prediction, some with two workers and
some as one of two shards. Finished predictions are not repeated, and no shard files remain at the end. Prints how many
predictions each killed run added. Exits with 1 if a byte differs, or if too few kills landed.

    python benchmarks/killed_predict.py [--kills 20] [--scenes 900] [--prompter oracle] [--mllm tiny] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from killing import is_killed, land, whole_run

from sam4mllm.prediction.store import shard_files
from sam4mllm.synthetic import Level
from sam4mllm.synthetic.shards import write_scenes

WAYS: tuple[list[str], ...] = ([], ["--workers", "2"], ["--shard", "1/2"], ["--shard", "2/2"])


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
        command = [sys.executable, "-m", "sam4mllm.cli", "predict", str(folder / "shapes" / "test"), "--device", "cpu"]
        command += ["--segmenter", options.segmenter, "--prompter", options.prompter]
        command += [
            "--batch-size",
            str(options.batch_size),
            *(["--mllm", options.mllm] if options.mllm else []),
            "--out",
        ]
        reference, out = folder / "whole.jsonl", folder / "out" / "p.jsonl"
        seconds = whole_run([*command, str(reference)])
        line_count = reference.read_bytes().count(b"\n")
        print(f"{line_count} predictions, {reference.stat().st_size} bytes; undisturbed {seconds:.1f} s", flush=True)
        disturb([*command, str(out)], out, options.kills, seconds, random.Random(options.seed))
        whole_run([*command, str(out)])
        remaining = sorted(path.name for path in out.parent.iterdir() if path.suffix == ".jsonl")
        same = out.read_bytes() == reference.read_bytes() and remaining == ["p.jsonl", "p.timings.jsonl"]
    print("the same bytes" if same else f"OTHER BYTES, or other files: {', '.join(remaining)}")
    raise SystemExit(not same)


def disturb(command: list[str], out: Path, kills: int, seconds: float, moments: random.Random) -> None:
    """Starts and kills runs soon after their first prediction, so that killed runs do at most half of the work.

    Raises:
        SystemExit: if too few kills landed.
    """

    def attempt(_: int) -> str | None:
        way, moment, before = moments.choice(WAYS), moments.uniform(0, seconds / kills / 2), done(out)
        if not is_killed([*command, *way], moment, started=lambda: done(out) > before):
            return None
        return f"{moment:.2f} s later, {' '.join(way) or 'alone'}: {done(out) - before} more, {done(out)} predictions"

    land(kills, attempt)


def done(out: Path) -> int:
    """The number of distinct predictions in the main file and the shards."""
    lines = [line for file in (out, *shard_files(out)) if file.exists() for line in file.read_bytes().splitlines(True)]
    return len({line for line in lines if line.endswith(b"\n")})


if __name__ == "__main__":
    main()
