"""Commands that are ended by `kill -9` at a moment: shared by `killed_data.py`, `killed_targets.py` and
`killed_predict.py`.

Knows nothing of what the commands do. Run by itself it does nothing.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep

HOME = Path(__file__).resolve().parents[1]  # where `python -m data_prep…` is found
POLL = 0.002  # seconds
TRIES = 3  # for each kill that is asked for, as a command may be done before its moment


def whole_run(words: Sequence[str]) -> float:
    """Run a command to its end; the seconds that it took.

    Raises:
        SystemExit: where it fails, with what it said.
    """
    start = perf_counter()
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=HOME, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr.strip()}")
    return perf_counter() - start


def is_killed(words: Sequence[str], moment: float, begun: Callable[[], bool] = lambda: True) -> bool:
    """Start a command and kill it so many seconds after it has begun; False where it was done before."""
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HOME)
    while running.poll() is None and not begun():
        sleep(POLL)
    sleep(moment)
    running.kill()
    return running.wait() == -signal.SIGKILL


def land(kills: int, attempt: Callable[[int], str | None]) -> None:
    """Attempt until so many kills have landed, and print each.

    Args:
        kills: how many are due.
        attempt: given how many have landed; what there is to say of a kill, None where there was none.

    Raises:
        SystemExit: where too few have after `TRIES` attempts for each.
    """
    landed = 0
    for _ in range(TRIES * kills):
        if landed == kills:
            break
        told = attempt(landed)
        if told is not None:
            landed += 1
            print(f"kill {landed} {told}", flush=True)
    if landed < kills:
        raise SystemExit(f"{landed} of {kills} kills landed: the command was done before its moment too often")


def check_same(found: Path, due: Path) -> None:
    """Make sure that two folders hold the same files, hidden ones too.

    Raises:
        SystemExit: naming some that differ.
    """
    one, other = content(found), content(due)
    differ = [name for name in sorted({**one, **other}) if one.get(name) != other.get(name)]
    if differ:
        raise SystemExit(f"OTHER BYTES in {len(differ)} files: {', '.join(differ[:5])}")


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
