"""What a reader makes of a data set's files: samples and talks by split, and all that looked odd on the way.

    Reading("refcoco", split_by="unc", images=Path("downloads/images"), splits={"val": [Sample(...), ...]},
            refs={"val": 3811}, noticed={"refs without a sentence": ["ref 7"]})

Knows nothing of files and of what becomes of the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import Sample


@dataclass(frozen=True, slots=True)
class Reading:
    """A data set as its files have it, whole: nothing is left out but what `noticed` counts.

    Attributes:
        source: the data set.
        images: the folder below which the pictures lie.
        splits: its samples, by the set's own word for the split, in the files' order.
        split_by: whose splits they are, for sets that come with several.
        refs: for sets that have them, how many refs (objects asked for, by one sentence or more) each split has.
        talks: its conversations, by split.
        noticed: what looked odd, and who: sentences such as "refs without a sentence", each with every name.
        alone: whether every JSON file below ``images`` is read as one of the set's.
    """

    source: str
    images: Path
    splits: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    split_by: str = ""
    refs: Mapping[str, int] = field(default_factory=dict)
    talks: Mapping[str, Sequence[Talk]] = field(default_factory=dict)
    noticed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    alone: bool = False


def pictures(rows: Iterable[Sample | Talk]) -> set[str]:
    """Which pictures they are about, below the image root."""
    return {row.image for row in rows}


def is_training(split: str) -> bool:
    """Whether a split is learned from: train, train2017, trainval. Any other one measures: val, testA, dev, minival."""
    return split.lower().startswith("train")
