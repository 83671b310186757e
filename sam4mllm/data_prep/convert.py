"""From a reading to folders of shards: checked, guarded, reported; killed at any moment and run again, the same bytes.

    OUT/train/dataset.json, *.parquet      one folder per split, samples and talks beside each other
    OUT/report.json                        last

Sets whose folders lie beside each other guard each other: what a new one holds out is taken out of the training splits
of those before it, so that the order in which sets are converted does not matter. Knows no data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sam4mllm.data import samples
from sam4mllm.data.conversations import Talk, read_conversations, write_conversations
from sam4mllm.data.samples import Sample, read_samples, write_samples
from sam4mllm.data_prep.checks.leaks import held_out, identities, indices, own, pictures_in
from sam4mllm.data_prep.checks.sound import check_sound
from sam4mllm.data_prep.reading import Reading, is_training
from sam4mllm.data_prep.report import NAME, make_report, mismatches, read_report, text, write_report
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import check_folder

Row = TypeVar("Row", Sample, Talk)


def convert(
    reading: Reading, root: Path, out: Path, partial: bool, keep_leaks: bool, say: Callable[[str], None]
) -> None:
    """Write a reading below ``out``, one folder per split, and its report beside them.

    Args:
        reading: the set as its files have it.
        root: below which its raw files lie, and maybe those of other sets.
        out: its own folder; the folders beside it are those of other sets.
        partial: whether counts may differ from the official ones.
        keep_leaks: whether training splits keep the pictures that any set measures on.
        say: shows the report.

    Raises:
        UserError: for what cannot be written whole (see `checks.sound`), counts that are not the official ones, a
            folder that holds another set, or lies where the next run would read it, or cannot be written.
    """
    check_sound(reading)
    _check_home(reading, out)
    beside = _beside(out)
    held = set() if keep_leaks else held_out(reading, root, beside)
    kept = _without(reading, held)
    report = make_report(reading, kept, guard=not keep_leaks)
    say(text(report))
    wrong = mismatches(report)
    if wrong and not partial:
        raise UserError(f"this is not the official {reading.source}: {'; '.join(wrong)}; --partial takes it as it is")
    _write(kept, out)
    write_report(report, out)
    for folder in beside:
        for line in _prune(folder, own(reading)):
            say(line)


def _check_home(reading: Reading, out: Path) -> None:
    check_folder(out)
    if reading.alone and out.resolve().is_relative_to(reading.images.resolve()):
        raise UserError(f"{out} lies in {reading.images}, where all JSON is read as {reading.source}: choose another")
    if not (out / NAME).is_file():
        return
    before = read_report(out)
    if (before["source"], before["split_by"]) != (reading.source, reading.split_by):
        raise UserError(f"{out} holds {before['source']} {before['split_by']}: choose another folder, or remove it")
    gone = (before["splits"].keys() - reading.splits) | (before["talks"].keys() - reading.talks)
    if gone:
        raise UserError(f"{out} holds {', '.join(sorted(gone))}, which these files lack: choose another, or remove it")


def _beside(out: Path) -> list[Path]:
    """The folders of other converted sets; ``.`` lies beside them by its own name, too."""
    home = out if out.name not in ("", "..") else out.resolve()
    found = sorted(path.parent for path in home.parent.glob(f"*/{NAME}"))
    return [folder for folder in found if folder.name != home.name]


def _without(reading: Reading, held: set[str]) -> Reading:
    return replace(
        reading,
        splits={split: _allowed(split, rows, reading.images, held) for split, rows in reading.splits.items()},
        talks={split: _allowed(split, rows, reading.images, held) for split, rows in reading.talks.items()},
    )


def _allowed(split: str, rows: Iterable[Row], images: Path, held: set[str]) -> Sequence[Row]:
    rows = list(rows)
    if not held or not is_training(split):
        return rows
    leaks = {image for image, known in identities(images, {row.image for row in rows}).items() if known in held}
    return [row for row in rows if row.image not in leaks]


def _write(kept: Reading, out: Path) -> None:
    for split in {**kept.splits, **kept.talks}:
        _sweep(out / split)
    _sweep(out)
    for split, rows in kept.splits.items():
        write_samples(rows, out / split, kept.images)
    for split, said in kept.talks.items():
        write_conversations(said, out / split, kept.images)


def _sweep(folder: Path) -> None:
    """Remove what a killed run left half written."""
    for path in folder.glob(".*.part.*"):
        path.unlink()


def _prune(folder: Path, held: set[str]) -> list[str]:
    """Take held out pictures out of the training splits of a converted set; says what was taken.

    The report is told first: killed in between, the next run finds the same pictures again and comes to the same end.
    """
    report = read_report(folder)
    said: list[str] = []
    if not report["guard"]:
        return said
    for part, index in indices(folder):
        if is_training(part.name):
            noted, names = pictures_in(part, index)
            known = identities(part / noted, set(names))
            left = [name for name in names if known[name] not in held]
            _note(report, part.name, index, left)
            if len(left) < len(names):
                write_report(report, folder)
                _rewrite(part, index, noted, set(left))
                said.append(f"{part}: {len(names) - len(left):,} rows taken out, whose pictures are held out now")
            _sweep_older(part, index, "samples" if index == samples.INDEX else "talks")
    _sweep_older(folder, NAME, "report")
    return said


def _sweep_older(folder: Path, index: str, stem: str) -> None:
    """Remove what a run that was killed left of rewriting a folder: what its index does not name and is older than it.

    What is newer may be another run's, which is about to name it.
    """
    written, named = (folder / index).stat().st_mtime_ns, (folder / index).read_text(encoding="utf-8")
    for pattern in (f"{stem}-*.parquet", f".{stem}-*.part.*", f".{Path(index).stem}.*.part.*"):
        for path in folder.glob(pattern):
            if path.name not in named and path.stat().st_mtime_ns < written:
                path.unlink()


def _note(report: Mapping[str, Any], split: str, index: str, left: Sequence[str]) -> None:
    what, rows = ("splits", "sentences") if index == samples.INDEX else ("talks", "talks")
    if split in report[what]:  # one that a killed run has just begun is not told of yet
        report[what][split]["kept"] = {rows: len(left), "pictures": len(set(left))}


def _rewrite(part: Path, index: str, noted: str, left: set[str]) -> None:
    images = Path(noted) if Path(noted).is_absolute() else Path(os.path.relpath((part / noted).resolve()))
    if index == samples.INDEX:
        write_samples([row for row in read_samples(part) if row.image in left], part, images)
    else:
        write_conversations([row for row in read_conversations(part) if row.image in left], part, images)
