"""The report of a conversion: counts read, official counts, counts written, and oddities.

`report.json` is in the folder of the splits. The same files give the same bytes:

    {"source": "refcoco", "split_by": "unc", "guard": true,
     "splits": {"train": {"refs": 42404, "sentences": 120624, "pictures": 16994, "without_target": 0,
                          "official": {"refs": 42404, "sentences": 120624, "pictures": 16994},
                          "kept": {"sentences": 96612, "pictures": 13602}}, ...},
     "talks": {},
     "noticed": {"missing images": {"count": 1, "first": ["train2014/COCO_train2014_000000000009.jpg"]}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.checks.official import OFFICIAL
from sam4mllm.data_prep.raw_dataset import RawDataset, image_names, is_training
from sam4mllm.errors import UserError
from sam4mllm.images.files import image_size
from sam4mllm.runtime.files import write_text

REPORT_FILE = "report.json"
MAX_NAMES = 5  # per kind of oddity
PLAIN = ("val", "test")  # splits that are obviously for evaluation; the report explains others
_UNITS = {"refs": "refs", "sentences": "sentences", "pictures": "images", "talks": "conversations"}  # by key


def make_report(dataset: RawDataset, written: RawDataset, guard: bool) -> dict[str, Any]:
    """The report as JSON values.

    Args:
        dataset: the data set as read from its files.
        written: the data set without leaked images.
        guard: whether leaked images were removed.
    """
    official = _official_counts(dataset.source, dataset.split_by)
    return {
        "source": dataset.source,
        "split_by": dataset.split_by,
        "guard": guard,
        "splits": {
            split: {
                **({"refs": dataset.refs[split]} if split in dataset.refs else {}),
                **_count("sentences", rows),
                "without_target": sum(not row.masks for row in rows),
                "official": official.get(split, {}),
                "kept": _count("sentences", written.splits[split]),
            }
            for split, rows in dataset.splits.items()
        },
        "talks": {
            split: {**_count("talks", rows), "kept": _count("talks", written.conversations[split])}
            for split, rows in dataset.conversations.items()
        },
        "noticed": {
            kind: {"count": len(names), "first": list(names[:MAX_NAMES])}
            for kind, names in _find_oddities(dataset).items()
            if names
        },
    }


def mismatches(report: Mapping[str, Any]) -> list[str]:
    """One line for each difference from the official counts; empty for a data set without official counts."""
    official, splits = _official_counts(report["source"], report["split_by"]), report["splits"]
    lines = [f"split {split} is missing" for split in official if split not in splits]
    lines += [f"split {split} has no official counts" for split in splits if official and split not in official]
    for split in splits:
        for key, expected in official.get(split, {}).items():
            if splits[split].get(key) != expected:
                lines.append(f"{split} has {splits[split].get(key):,} {_UNITS[key]} instead of {expected:,}")
    return lines


def format_report(report: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    lines = []
    for split, part in report["splits"].items():
        counts = [_format_count(part, key) for key in ("refs", "sentences", "pictures") if key in part]
        without_target = f"; {part['without_target']:,} without a target" if part["without_target"] else ""
        lines += [f"{split}: {', '.join(counts)}{without_target}", *_format_removed(part, "sentences", split)]
    for split, part in report["talks"].items():
        lines.append(f"{split}: {part['talks']:,} conversations about {part['pictures']:,} images")
        lines += _format_removed(part, "talks", split)
    for split in {**report["splits"], **report["talks"]}:
        if not is_training(split) and not split.startswith(PLAIN):
            lines.append(f"{split}: used for evaluation only, because its name does not start with train")
    if not report["guard"]:
        lines.append("leaks are kept: training splits may contain images of evaluation splits")
    for kind, names in report["noticed"].items():
        first = ", ".join(name if name.isprintable() else repr(name) for name in names["first"])
        more = ", ..." if names["count"] > len(names["first"]) else ""
        lines.append(f"{kind}: {names['count']:,} ({first}{more})")
    return "\n".join(lines)


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Writes a report to the folder of the splits.

    Raises:
        UserError: if it cannot be written.
    """
    write_text(folder / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a converted data set.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        report = json.loads((folder / REPORT_FILE).read_bytes())
        return {key: report[key] for key in ("source", "split_by", "guard", "splits", "talks", "noticed")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / REPORT_FILE} is damaged: remove it and convert the data set again") from error


def _count(key: str, rows: Sequence[Sample | Conversation]) -> dict[str, int]:
    return {key: len(rows), "pictures": len(image_names(rows))}


def _find_oddities(dataset: RawDataset) -> dict[str, Sequence[str]]:
    samples = list(chain.from_iterable(dataset.splits.values()))
    images = dict.fromkeys(row.image for _, rows in dataset.all_splits for row in rows)
    missing = [image for image in images if not (dataset.images / image).is_file()]
    empty_masks = {mask for mask in {mask for sample in samples for mask in sample.masks} if not mask.area}
    return {
        **dataset.noticed,
        "missing images": missing,
        **_check_sizes(samples, dataset.images, set(missing)),
        "sentences of which a mask has no pixel": [
            sample.id for sample in samples if not empty_masks.isdisjoint(sample.masks)
        ],
        "sentences that come twice, with the same image and masks": list(_repeated_ids(samples)),
        "sentences without a word": [sample.id for sample in samples if not sample.phrase.strip()],
    }


def _check_sizes(samples: Iterable[Sample], images: Path, missing: set[str]) -> dict[str, list[str]]:
    """The images that cannot be read, and those with another size than their samples. Reads file headers only."""
    unreadable, other_size = list[str](), list[str]()
    for image, width, height in dict.fromkeys((sample.image, sample.width, sample.height) for sample in samples):
        try:
            size = (width, height) if image in missing else image_size(images / image)
        except UserError:
            unreadable.append(image)
            continue
        if size != (width, height):
            other_size.append(f"{image}: {size[0]} x {size[1]} instead of {width} x {height}")
    return {"images that cannot be read": unreadable, "images of another size than recorded": other_size}


def _repeated_ids(samples: Iterable[Sample]) -> Iterator[str]:
    seen = set()
    for sample in samples:
        key = (sample.split, sample.image, sample.masks, sample.phrase)
        if key in seen:
            yield sample.id
        seen.add(key)


def _official_counts(source: str, split_by: str) -> dict[str, dict[str, int]]:
    """The known counts of each split, by key of the report; empty without official counts."""
    splits = OFFICIAL.get("-".join(filter(None, (source, split_by))), {})
    return {
        split: {key: count for key, count in asdict(counts).items() if count is not None}
        for split, counts in splits.items()
    }


def _format_count(part: Mapping[str, Any], key: str) -> str:
    count, official = part[key], part["official"].get(key)
    return f"{count:,} {_UNITS[key]}" + (f" (official: {official:,})" if official not in (None, count) else "")


def _format_removed(part: Mapping[str, Any], key: str, split: str) -> list[str]:
    rows, images = part[key] - part["kept"][key], part["pictures"] - part["kept"]["pictures"]
    if not rows:
        return []
    return [f"{split}: removed {rows:,} {_UNITS[key]}: their {images:,} images are in an evaluation split"]
