"""The report of a conversion: what was read, beside the official counts, what was kept, and all that looked odd.

`report.json` lies beside the splits. The same files give the same bytes:

    {"source": "refcoco", "split_by": "unc", "guard": true,
     "splits": {"train": {"refs": 42404, "sentences": 120624, "pictures": 16994, "without_target": 0,
                          "official": {"refs": 42404, "sentences": 120624, "pictures": 16994},
                          "kept": {"sentences": 96612, "pictures": 13602}}, ...},
     "talks": {},
     "noticed": {"pictures that are missing": {"count": 1, "first": ["train2014/COCO_train2014_000000000009.jpg"]}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.checks.official import OFFICIAL, Counts
from sam4mllm.data_prep.reading import Reading, is_training, pictures
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import image_size
from sam4mllm.runtime.files import write_text

NAME = "report.json"
FIRST = 5  # so many are named
PLAIN = ("val", "test")  # what nobody takes for training


def make_report(reading: Reading, kept: Reading, guard: bool) -> dict[str, Any]:
    """The report of what was read and what the guard kept of it, as JSON.

    Args:
        reading: the set as its files have it.
        kept: the same without the pictures that are held out.
        guard: whether the guard was on.
    """
    official = _official(reading.source, reading.split_by)
    return {
        "source": reading.source,
        "split_by": reading.split_by,
        "guard": guard,
        "splits": {
            split: {
                **({"refs": reading.refs[split]} if split in reading.refs else {}),
                **_size("sentences", rows),
                "without_target": sum(not row.masks for row in rows),
                "official": _known(official.get(split)),
                "kept": _size("sentences", kept.splits[split]),
            }
            for split, rows in reading.splits.items()
        },
        "talks": {
            split: {**_size("talks", rows), "kept": _size("talks", kept.talks[split])}
            for split, rows in reading.talks.items()
        },
        "noticed": {
            what: {"count": len(who), "first": list(who[:FIRST])} for what, who in _noticed(reading).items() if who
        },
    }


def mismatches(report: Mapping[str, Any]) -> list[str]:
    """Where the counts are not the official ones, in words; none for a set without any."""
    official, splits = _official(report["source"], report["split_by"]), report["splits"]
    wrong = [f"there is no split {split}" for split in official if split not in splits]
    wrong += [f"the split {split} is in no official count" for split in splits if official and split not in official]
    for split in splits:
        for what, due in _known(official.get(split)).items():
            found = splits[split].get(what)
            if found != due:
                wrong.append(f"{split} has {found:,} {what} instead of {due:,}")
    return wrong


def text(report: Mapping[str, Any]) -> str:
    """The report for people to read."""
    lines = []
    for split, part in report["splits"].items():
        due = part["official"]
        sizes = [_beside(part[what], what, due.get(what)) for what in ("refs", "sentences", "pictures") if what in part]
        none = f"; {part['without_target']:,} mean nothing" if part["without_target"] else ""
        lines += [f"{split}: {', '.join(sizes)}{none}", *_removed(part, "sentences", split)]
    for split, part in report["talks"].items():
        lines += [
            f"{split}: {part['talks']:,} talks about {part['pictures']:,} pictures",
            *_removed(part, "talks", split),
        ]
    for split in {**report["splits"], **report["talks"]}:
        if not is_training(split) and not split.startswith(PLAIN):
            lines.append(f"{split}: taken to measure, as its name does not begin with train: nothing learns from it")
    if not report["guard"]:
        lines.append("pictures of splits that measure were not looked for: leaks are kept")
    for what, who in report["noticed"].items():
        more = ", ..." if who["count"] > len(who["first"]) else ""
        lines.append(f"{what}: {who['count']:,} ({', '.join(map(_in_line, who['first']))}{more})")
    return "\n".join(lines)


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Beside the splits.

    Raises:
        UserError: where it cannot be written.
    """
    write_text(folder / NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def read_report(folder: Path) -> dict[str, Any]:
    """A report as `write_report` left it.

    Raises:
        UserError: where it is damaged.
    """
    try:
        report = json.loads((folder / NAME).read_bytes())
        return {key: report[key] for key in ("source", "split_by", "guard", "splits", "talks", "noticed")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / NAME} is damaged: remove it and convert the set again") from error


def _size(what: str, rows: Sequence[Sample | Talk]) -> dict[str, int]:
    return {what: len(rows), "pictures": len(pictures(rows))}


def _noticed(reading: Reading) -> dict[str, Sequence[str]]:
    samples = list(chain.from_iterable(reading.splits.values()))
    talks = chain.from_iterable(reading.talks.values())
    about = dict.fromkeys([*(sample.image for sample in samples), *(talk.image for talk in talks)])
    missing = [image for image in about if not (reading.images / image).is_file()]
    return {
        **reading.noticed,
        "pictures that are missing": missing,
        **_other_sizes(samples, reading.images, set(missing)),
        "sentences of which a mask has no pixel": list(_empty(samples)),
        "sentences that come twice, with the same picture and masks": list(_twice(samples)),
        "sentences without a word": [sample.id for sample in samples if not sample.phrase.strip()],
    }


def _other_sizes(samples: Iterable[Sample], images: Path, missing: set[str]) -> dict[str, list[str]]:
    """Which pictures are not what the samples say they are; of photos the headers alone are read."""
    unread, other = list[str](), list[str]()
    for image, *due in dict.fromkeys((sample.image, sample.width, sample.height) for sample in samples):
        try:
            found = None if image in missing else image_size(images / image)
        except UserError:
            unread.append(image)
        else:
            if found not in (None, tuple(due)):
                other.append(f"{image}: {found[0]} x {found[1]} instead of {due[0]} x {due[1]}")
    return {"pictures that cannot be read": unread, "pictures of another size than the set says": other}


def _empty(samples: Iterable[Sample]) -> Iterator[str]:
    areas: dict[Rle, int] = {}
    for sample in samples:
        for mask in sample.masks:
            if mask not in areas:
                areas[mask] = mask.area
        if not all(areas[mask] for mask in sample.masks):
            yield sample.id


def _twice(samples: Iterable[Sample]) -> Iterator[str]:
    seen = set()
    for sample in samples:
        asked = (sample.split, sample.image, sample.masks, sample.phrase)
        if asked in seen:
            yield sample.id
        seen.add(asked)


def _official(source: str, split_by: str) -> Mapping[str, Counts]:
    return OFFICIAL.get("-".join(filter(None, (source, split_by))), {})


def _known(counts: Counts | None) -> dict[str, int]:
    return {what: count for what, count in asdict(counts).items() if count is not None} if counts else {}


def _beside(found: int, what: str, due: int | None) -> str:
    return f"{found:,} {what}" + (f" (officially {due:,})" if due is not None and due != found else "")


def _in_line(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _removed(part: Mapping[str, Any], what: str, split: str) -> list[str]:
    less, pictures_less = part[what] - part["kept"][what], part["pictures"] - part["kept"]["pictures"]
    if not less:
        return []
    return [f"{split}: {less:,} {what} kept out: their {pictures_less:,} pictures are in a split that measures"]
