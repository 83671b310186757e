"""Kills commands with `kill -9` and compares folders, for the benchmarks `killed_*.py`."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep

HOME = Path(__file__).resolve().parents[1]  # working directory for `python -m sam4mllm.cli`
POLL = 0.002  # seconds
TRIES = 3  # attempts per requested kill, since a command may finish before it is killed


def whole_run(command: Sequence[str]) -> float:
    """Runs a command to its end and returns the seconds it took.

    Raises:
        SystemExit: if it fails, with its standard error.
    """
    start = perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=HOME, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return perf_counter() - start


def is_killed(command: Sequence[str], moment: float, started: Callable[[], bool] = lambda: True) -> bool:
    """Kills a command ``moment`` seconds after ``started`` is true; returns False if the command finished earlier."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HOME)
    while running.poll() is None and not started():
        sleep(POLL)
    sleep(moment)
    running.kill()
    return running.wait() == -signal.SIGKILL


def land(kills: int, attempt: Callable[[int], str | None]) -> None:
    """Calls ``attempt`` until ``kills`` kills have landed, and prints each.

    Args:
        kills: number of kills.
        attempt: takes the number of kills so far; returns a description of the kill, or None if none landed.

    Raises:
        SystemExit: if too few kills landed after `TRIES` attempts per kill.
    """
    landed = 0
    for _ in range(TRIES * kills):
        if landed == kills:
            break
        description = attempt(landed)
        if description is not None:
            landed += 1
            print(f"kill {landed} {description}", flush=True)
    if landed < kills:
        raise SystemExit(f"{landed} of {kills} kills landed: the command finished too early in the other attempts")


def check_same(output: Path, expected: Path) -> None:
    """Checks that two folders have the same files, including hidden files.

    Raises:
        SystemExit: if files differ; the message names up to five.
    """
    first, second = content(output), content(expected)
    differ = [name for name in sorted({**first, **second}) if first.get(name) != second.get(name)]
    if differ:
        raise SystemExit(f"OTHER BYTES in {len(differ)} files: {', '.join(differ[:5])}")


def content(folder: Path) -> dict[str, bytes]:
    """The contents of all files below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
