"""Checks a data set, removes leaked images from its training splits, and writes shards and a report.

    OUT/train/dataset.json, *.parquet      one folder per split, for samples and conversations
    OUT/report.json                        written last

Data sets in sibling folders guard each other: images that a new data set evaluates on are removed from the training
splits that were converted before it, so the order of conversion does not matter. A run that was killed can be repeated;
the bytes written are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sam4mllm.data import samples
from sam4mllm.data.conversations import Conversation, read_conversations, write_conversations
from sam4mllm.data.samples import Sample, read_samples, write_samples
from sam4mllm.data_prep.checks import leaks
from sam4mllm.data_prep.checks.validate import validate
from sam4mllm.data_prep.raw_dataset import RawDataset, image_names, is_training
from sam4mllm.data_prep.report import REPORT_FILE, format_report, make_report, mismatches, read_report, write_report
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import check_folder

Row = TypeVar("Row", Sample, Conversation)


def convert(
    dataset: RawDataset, root: Path, out: Path, partial: bool, keep_leaks: bool, print_line: Callable[[str], None]
) -> None:
    """Writes the splits of a data set and its report to ``out``.

    Args:
        dataset: the data set as read from its files.
        root: folder of the raw files of this data set, and possibly of others.
        out: folder of this data set; its sibling folders hold other converted data sets.
        partial: whether counts may differ from the official ones.
        keep_leaks: whether training splits keep images that any data set evaluates on.
        print_line: prints a line of the report.

    Raises:
        UserError: if the data set fails `checks.validate`, if its counts differ from the official ones and ``partial``
            is false, or if ``out`` holds another data set, is inside the folder of raw files, or cannot be written.
    """
    validate(dataset)
    _check_out(dataset, out)
    siblings = _find_siblings(out)
    written = dataset if keep_leaks else _remove_leaks(dataset, leaks.find_held_out_ids(dataset, root, siblings))
    report = make_report(dataset, written, guard=not keep_leaks)
    print_line(format_report(report))
    differences = mismatches(report)
    if differences and not partial:
        raise UserError(
            f"these files are not the official {dataset.source}: {'; '.join(differences)}; add --partial to convert "
            f"them anyway"
        )
    _write(written, out)
    write_report(report, out)
    evaluation_ids = leaks.find_evaluation_ids(dataset)
    for folder in siblings:
        for line in _prune(folder, evaluation_ids):
            print_line(line)


def _check_out(dataset: RawDataset, out: Path) -> None:
    check_folder(out)
    if dataset.reads_all_json and out.resolve().is_relative_to(dataset.images.resolve()):
        raise UserError(
            f"{out} is inside {dataset.images}, where all JSON is read as {dataset.source}: choose another folder"
        )
    if not (out / REPORT_FILE).is_file():
        return
    previous = read_report(out)
    if (previous["source"], previous["split_by"]) != (dataset.source, dataset.split_by):
        raise UserError(f"{out} holds {previous['source']} {previous['split_by']}: choose another folder, or remove it")
    missing = (previous["splits"].keys() - dataset.splits) | (previous["talks"].keys() - dataset.conversations)
    if missing:
        raise UserError(
            f"{out} holds the split {', '.join(sorted(missing))}, which these files do not have: choose another "
            f"folder, or remove it"
        )


def _find_siblings(out: Path) -> list[Path]:
    """The folders of other converted data sets in the parent folder; also if ``out`` is ``.``."""
    folder = out if out.name not in ("", "..") else out.resolve()
    converted = sorted(path.parent for path in folder.parent.glob(f"*/{REPORT_FILE}"))
    return [sibling for sibling in converted if sibling.name != folder.name]


def _remove_leaks(dataset: RawDataset, held_out: set[str]) -> RawDataset:
    names = set[str]().union(*(image_names(rows) for split, rows in dataset.all_splits if is_training(split)))
    leaked = {name for name, image_id in leaks.find_image_ids(dataset.images, names).items() if image_id in held_out}

    def without_leaked(splits: Mapping[str, Sequence[Row]]) -> dict[str, Sequence[Row]]:
        return {
            split: [row for row in rows if row.image not in leaked] if is_training(split) else rows
            for split, rows in splits.items()
        }

    return replace(dataset, splits=without_leaked(dataset.splits), conversations=without_leaked(dataset.conversations))


def _write(dataset: RawDataset, out: Path) -> None:
    for folder in (out, *(out / split for split, _ in dataset.all_splits)):
        for path in folder.glob(".*.part.*"):  # left by a killed run
            path.unlink()
    for split, split_samples in dataset.splits.items():
        write_samples(split_samples, out / split, dataset.images)
    for split, conversations in dataset.conversations.items():
        write_conversations(conversations, out / split, dataset.images)


def _prune(folder: Path, held_out: set[str]) -> list[str]:
    """Removes held-out images from the training splits of a converted data set; one line per split that changed.

    The report is written before the split. If a run is killed between the two, the next run finds the same images and
    writes the same files.
    """
    report = read_report(folder)
    messages: list[str] = []
    if not report["guard"]:
        return messages
    for split_folder, index in leaks.find_indices(folder):
        if is_training(split_folder.name):
            images, names = leaks.read_image_names(split_folder, index)
            image_ids = leaks.find_image_ids(split_folder / images, set(names))
            remaining = [name for name in names if image_ids[name] not in held_out]
            _update_counts(report, split_folder.name, index, remaining)
            if len(remaining) < len(names):
                write_report(report, folder)
                _rewrite(split_folder, index, images, set(remaining))
                removed = len(names) - len(remaining)
                messages.append(
                    f"{split_folder}: removed {removed:,} rows, as their images are now in an evaluation split"
                )
            _remove_stale_files(split_folder, index, "samples" if index == samples.INDEX else "talks")
    _remove_stale_files(folder, REPORT_FILE, "report")
    return messages


def _remove_stale_files(folder: Path, index: str, stem: str) -> None:
    """Removes the files that a killed rewrite left: files older than the index that the index does not name.

    A newer file may belong to another run, which is about to add it to the index.
    """
    index_time, index_text = (folder / index).stat().st_mtime_ns, (folder / index).read_text(encoding="utf-8")
    for pattern in (f"{stem}-*.parquet", f".{stem}-*.part.*", f".{Path(index).stem}.*.part.*"):
        for path in folder.glob(pattern):
            if path.name not in index_text and path.stat().st_mtime_ns < index_time:
                path.unlink()


def _update_counts(report: Mapping[str, Any], split: str, index: str, remaining: Sequence[str]) -> None:
    section, unit = ("splits", "sentences") if index == samples.INDEX else ("talks", "talks")
    if split in report[section]:  # a split that a killed run has just written is not in the report yet
        report[section][split]["kept"] = {unit: len(remaining), "pictures": len(set(remaining))}


def _rewrite(split_folder: Path, index: str, image_root: str, remaining: set[str]) -> None:
    """Writes a split again with only the rows of the remaining images."""
    images = Path(image_root)
    if not images.is_absolute():
        images = Path(os.path.relpath((split_folder / images).resolve()))
    if index == samples.INDEX:
        write_samples([row for row in read_samples(split_folder) if row.image in remaining], split_folder, images)
    else:
        conversations = [row for row in read_conversations(split_folder) if row.image in remaining]
        write_conversations(conversations, split_folder, images)
