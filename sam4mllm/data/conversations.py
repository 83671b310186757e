"""Conversations (talks): VQA about images, without masks, mixed into training to prevent forgetting.

A talks folder holds Parquet shards and ``talks.json``, an index that lists them. It may hold samples too. Shards
contain no pixels: image paths are relative to the image root.

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

from sam4mllm.data.samples import (
    IMAGE_COLUMNS,
    ORIGIN_COLUMNS,
    check_below_root,
    read_image_rows,
    write_image_rows,
)
from sam4mllm.data.shards import Kind, required
from sam4mllm.errors import UserError
from sam4mllm.language.messages import Turn

VERSION = 1
INDEX = "talks.json"

_TURN = pa.struct([required("role", pa.string()), required("text", pa.string())])
_SCHEMA = pa.schema(
    [*IMAGE_COLUMNS, required("turns", pa.list_(required("turn", _TURN))), *ORIGIN_COLUMNS],
    metadata={"sam4mllm_talks_version": str(VERSION)},
)
_KIND = Kind("talks", INDEX, VERSION, _SCHEMA, index_fields={"images": str}, writer="sam4mllm data")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation about one image.

    Attributes:
        id: unique within its folder.
        image: path of the image relative to the image root, with forward slashes; it cannot leave the root.
        width: width of the image, in pixels.
        height: height of the image, in pixels.
        turns: alternating turns of user and assistant; the user begins and the assistant ends. The image belongs to the
            first turn; the text has no placeholder for it.
        source: the dataset.
        split: the dataset's own name of the split.

    Raises:
        UserError: if the turns do not alternate, or the image path is invalid or leaves the root.
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
            raise UserError(
                f"talk {self.id}: turns must alternate between user and assistant, got {', '.join(roles) or 'no turns'}"
            )


@dataclass(frozen=True, slots=True)
class ConversationSet:
    """Talks in order, and the image root that their image paths are relative to."""

    conversations: tuple[Conversation, ...]
    images: Path

    def __len__(self) -> int:
        return len(self.conversations)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(self.conversations)

    def path(self, talk: Conversation) -> Path:
        """Path of the talk's image file; the file is not checked."""
        return self.images / talk.image


def write_conversations(conversations: Iterable[Conversation], folder: Path, images: Path) -> None:
    """Write talks to ``folder``, replacing the talks in it. Equal talks give identical bytes.

    Args:
        conversations: the talks; may be empty.
        folder: the folder; created if missing. Samples in it are not changed.
        images: the image root. An absolute path is stored unchanged; a relative one is stored relative to ``folder``,
            with links resolved.

    Raises:
        UserError: if an id occurs more than once, or the folder cannot be written.
    """
    write_image_rows(_KIND, conversations, asdict, folder, images)


def read_conversations(folder: Path, images: Path | None = None) -> ConversationSet:
    """The talks of a folder, in the order of writing.

    Args:
        folder: a folder written by `write_conversations`.
        images: overrides the stored image root, for images that were moved.

    Raises:
        UserError: if the folder holds no talks, or its files are damaged or from a newer version of this package.
    """
    return ConversationSet(*read_image_rows(_KIND, folder, _talk, images))


def _talk(row: dict[str, Any]) -> Conversation:
    return Conversation(**{**row, "turns": tuple(Turn(**turn) for turn in row["turns"])})
