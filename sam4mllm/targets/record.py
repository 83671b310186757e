"""Targets: which prompts redraw a mask best, as a model should learn to say them; kept as Parquet shards.

A targets folder holds shards and `targets.json`, which names them and says what they were made of. Numbers are kept,
not sentences, so that wording and dialect can change without a segmenter. Knows nothing of how targets are found.

    >>> Target("refcoco-unc-5342-15215", 0, prompts=(Prompt(Box(281, 115, 552, 480), (Point(288.5, 293.5),)),),
    ...        ious=(0.91,), ceiling=0.91)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sam4mllm.data.shards import ROWS_PER_SHARD, Kind, new_shards, read_index, read_shards
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.runtime.files import write_text

VERSION = 1
INDEX = "targets.json"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_POINT = pa.struct([_required("x", pa.float64()), _required("y", pa.float64()), _required("positive", pa.bool_())])
_PROMPT = pa.struct(
    [
        *(_required(edge, pa.float64()) for edge in ("x0", "y0", "x1", "y1")),
        _required("points", pa.list_(_required("point", _POINT))),
        _required("iou", pa.float64()),
    ]
)
_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("index", pa.int32()),
        _required("prompts", pa.list_(_required("prompt", _PROMPT))),
        _required("ceiling", pa.float64()),
    ],
    metadata={"sam4mllm_targets_version": str(VERSION)},
)
_KIND = Kind("targets", INDEX, VERSION, _SCHEMA, noted={"about": dict}, writer="sam4mllm targets")


@dataclass(frozen=True, slots=True)
class Target:
    """What a model should say of one mask.

    Attributes:
        sample_id: the sample's.
        index: which of the sample's masks, from 0.
        prompts: those kept, best first, no two equal; in pixels of the picture. () where no candidate reached the
            least IoU.
        ious: of what the segmenter drew for each of them with the mask, 0..1.
        ceiling: the best IoU that was found, also where it was too low to be kept; 0 for an empty mask.
    """

    sample_id: str
    index: int
    prompts: tuple[Prompt, ...]
    ious: tuple[float, ...]
    ceiling: float


def write_targets(targets: Iterable[Target], folder: Path, about: Mapping[str, Any]) -> None:
    """Make ``folder`` hold exactly ``targets``; the same targets and ``about`` give the same bytes.

    All are taken before anything is written; `sam4mllm.data.shards.new_shards` says how a folder changes.

    Args:
        targets: any number of them, also none.
        folder: made if need be; samples in it are left alone.
        about: what they were made of (settings, fingerprints), as JSON; kept in the index.

    Raises:
        UserError: for a mask that comes twice, or a folder that cannot be written.
    """
    rows = list(targets)
    doubles = [key for key, count in Counter((each.sample_id, each.index) for each in rows).items() if count > 1]
    if doubles:
        raise UserError(
            f"{len(doubles)} masks come more than once, the first is mask {doubles[0][1]} of {doubles[0][0]}"
        )
    write_rows(map(json_of, rows), folder, about)


def write_rows(rows: Iterable[Mapping[str, Any]], folder: Path, about: Mapping[str, Any]) -> None:
    """As `write_targets`, for rows that `json_of` made and whose masks are known to be different; few are held at once.

    Raises:
        UserError: for a folder that cannot be written.
    """
    with new_shards(_KIND, rows, folder, {"about": dict(about)}, ROWS_PER_SHARD) as index:
        write_text(folder / INDEX, index)


def about_of(folder: Path) -> dict[str, Any]:
    """What the targets of a folder were made of, as it was noted; no shard is read.

    Raises:
        UserError: for a folder that holds no targets, or targets of a newer version.
    """
    return dict(read_index(_KIND, folder)["about"])


def read_targets(folder: Path) -> dict[tuple[str, int], Target]:
    """The targets of a folder by sample id and mask index, in the order in which they were written.

    Raises:
        UserError: for a folder that holds no targets, targets of a newer version of this package, or damage.
    """
    _, targets = read_shards(_KIND, folder, target_of)
    return {(target.sample_id, target.index): target for target in targets}


def json_of(target: Target) -> dict[str, Any]:
    """A target as the row of a shard, or as JSON."""
    prompts = [
        {
            **asdict(prompt.box),
            "points": [asdict(point) for point in prompt.points],
            "iou": score,
        }
        for prompt, score in zip(target.prompts, target.ious, strict=True)
    ]
    return {"sample_id": target.sample_id, "index": target.index, "prompts": prompts, "ceiling": target.ceiling}


def target_of(row: dict[str, Any]) -> Target:
    """The target that `json_of` wrote.

    Raises:
        UserError: for a box that is none.
    """
    try:
        prompts = tuple(_prompt(each) for each in row["prompts"])
    except ValueError as error:  # sound pages of another writer can hold a box that is none
        raise UserError(f"the target of mask {row['index']} of {row['sample_id']} is damaged: {error}") from error
    ious = tuple(each["iou"] for each in row["prompts"])
    return Target(row["sample_id"], row["index"], prompts, ious, row["ceiling"])


def _prompt(each: dict[str, Any]) -> Prompt:
    points = tuple(Point(**point) for point in each["points"])
    return Prompt(Box(each["x0"], each["y0"], each["x1"], each["y1"]), points)
