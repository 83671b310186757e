"""A data set as a reader returns it: samples and conversations by split, and oddities in its files.

RawDataset("refcoco", split_by="unc", images=Path("downloads/images"), splits={"val": [Sample(...), ...]},
           refs={"val": 3811}, noticed={"refs without a sentence": ["ref 7"]})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample


@dataclass(frozen=True, slots=True)
class RawDataset:
    """All samples and conversations of a data set. Only entries that `noticed` counts are left out.

    Attributes:
        source: name of the data set.
        images: image root.
        splits: samples by split, in the order of the files. Splits keep the names of the data set.
        split_by: author of the splits, for data sets with several versions of them (``unc``, ``google``).
        refs: number of refs by split, for data sets that have them. A ref is one object with one or more sentences.
        conversations: conversations by split.
        noticed: names of odd entries by kind, such as "refs without a sentence".
        reads_all_json: whether every JSON file below ``images`` is read as part of this data set.
    """

    source: str
    images: Path
    splits: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    split_by: str = ""
    refs: Mapping[str, int] = field(default_factory=dict)
    conversations: Mapping[str, Sequence[Conversation]] = field(default_factory=dict)
    noticed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reads_all_json: bool = False

    @property
    def all_splits(self) -> list[tuple[str, Sequence[Sample | Conversation]]]:
        """The splits of samples, then the splits of conversations, with their rows. A name can occur in both."""
        return [*self.splits.items(), *self.conversations.items()]


def image_names(rows: Iterable[Sample | Conversation]) -> set[str]:
    """The image paths of the rows, relative to the image root."""
    return {row.image for row in rows}


def is_training(split: str) -> bool:
    """Whether a split is for training: train, train2017, trainval. Others are for evaluation: val, testA, minival."""
    return split.lower().startswith("train")
