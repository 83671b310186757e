"""Talks: conversations about pictures without any mask, the part of a training mixture that keeps general ability.

A talks folder holds Parquet shards and `talks.json`, which names them; samples of the same split may lie beside them.
Shards hold no pixels: pictures are found below the set's image root. Knows no data set and no model.

    >>> Talk("vqa-000000033471-0", "train2017/000000033471.jpg", 640, 480,
    ...      (Turn("user", "What are the colors of the bus?"), Turn("assistant", "It is white and red.")),
    ...      source="vqa", split="train")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sam4mllm.data.samples import check_below_root, noted_of
from sam4mllm.data.shards import ROWS_PER_SHARD, Kind, new_shards, read_shards
from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn
from sam4mllm.runtime.files import write_text

VERSION = 1
INDEX = "talks.json"

_TURN = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("turns", pa.list_(pa.field("turn", _TURN, nullable=False)), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ],
    metadata={"sam4mllm_talks_version": str(VERSION)},
)
_KIND = Kind("talks", INDEX, VERSION, _SCHEMA, noted={"images": str}, writer="`sam4mllm data`")


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation about one picture.

    Attributes:
        id: unique in its set.
        image: the picture's path below the set's image root, with forward slashes; it cannot leave the root.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        turns: the user's and the assistant's in turn, the user's first, the assistant's last. The picture belongs to
            the first; no text stands for it.
        source: the data set.
        split: its part, in the data set's own word.

    Raises:
        UserError: for turns in another order, or an image path that leaves the root.
    """

    id: str
    image: str
    width: int
    height: int
    turns: tuple[Turn, ...]
    source: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        check_below_root(self.image, f"talk {self.id}")
        roles = [turn.role for turn in self.turns]
        if not roles or len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
            raise UserError(f"talk {self.id}: user and assistant speak in turn, got {', '.join(roles) or 'no turns'}")


@dataclass(frozen=True, slots=True)
class TalkSet:
    """Talks in order, and the folder below which their pictures lie."""

    talks: tuple[Talk, ...]
    images: Path

    def __len__(self) -> int:
        return len(self.talks)

    def __iter__(self) -> Iterator[Talk]:
        return iter(self.talks)

    def path(self, talk: Talk) -> Path:
        """Where the talk's picture should be; whether it is there shows when it is read."""
        return self.images / talk.image


def write_talks(talks: Iterable[Talk], folder: Path, images: Path) -> None:
    """Make ``folder`` a talks folder that holds exactly ``talks``; the same talks give the same bytes.

    Args:
        talks: any number of them, also none.
        folder: made if need be; samples in it stay as they are.
        images: the image root. Kept as given if absolute, else noted as seen from ``folder``, links followed.

    Raises:
        UserError: for an id that comes twice, or a folder that cannot be written.
    """
    rows = list(talks)
    noted = noted_of([(row.id, row.source, row.split) for row in rows], "talk", folder, images)
    with new_shards(_KIND, map(asdict, rows), folder, noted, ROWS_PER_SHARD) as index:
        write_text(folder / INDEX, index)


def read_talks(folder: Path, images: Path | None = None) -> TalkSet:
    """The talks of a folder, in the order in which they were written.

    Args:
        folder: as `write_talks` leaves it.
        images: an image root to use instead of the noted one, for pictures that were moved.

    Raises:
        UserError: for a folder that holds no talks, talks of a newer version of this package, or damage.
    """
    index, rows = read_shards(_KIND, folder, _talk)
    return TalkSet(tuple(rows), images if images is not None else folder / index["images"])


def _talk(row: dict[str, Any]) -> Talk:
    return Talk(**{**row, "turns": tuple(Turn(**turn) for turn in row["turns"])})
