"""Targets: the prompts that reproduce a mask best, as Parquet shards for training.

A targets folder holds shards and `targets.json`, which lists the shards and the settings they were made with. Targets
store numbers and no sentences, so wording and dialect can change without another search.

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

from sam4mllm.data.shards import Kind, read_index, read_shards, required, write_shards
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt

VERSION = 1
INDEX = "targets.json"


_POINT = pa.struct([required("x", pa.float64()), required("y", pa.float64()), required("positive", pa.bool_())])
_PROMPT = pa.struct(
    [
        *(required(edge, pa.float64()) for edge in ("x0", "y0", "x1", "y1")),
        required("points", pa.list_(required("point", _POINT))),
        required("iou", pa.float64()),
    ]
)
_SCHEMA = pa.schema(
    [
        required("sample_id", pa.string()),
        required("index", pa.int32()),
        required("prompts", pa.list_(required("prompt", _PROMPT))),
        required("ceiling", pa.float64()),
    ],
    metadata={"sam4mllm_targets_version": str(VERSION)},
)
_KIND = Kind("targets", INDEX, VERSION, _SCHEMA, index_fields={"about": dict}, writer="sam4mllm targets")


@dataclass(frozen=True, slots=True)
class Target:
    """The prompts that a model is trained to generate for one mask.

    Attributes:
        sample_id: the sample's id.
        index: the index of the mask in the sample, from 0.
        prompts: the best prompts, best first, all different; in pixels of the image. Empty if no candidate reached the
            minimum IoU.
        ious: the IoU of the mask with the segmenter's mask for each prompt, 0..1.
        ceiling: the best IoU of all candidates, even if it is below the minimum; 0 for an empty mask.
    """

    sample_id: str
    index: int
    prompts: tuple[Prompt, ...]
    ious: tuple[float, ...]
    ceiling: float


def write_targets(targets: Iterable[Target], folder: Path, about: Mapping[str, Any]) -> None:
    """Make ``folder`` hold exactly ``targets``. The same targets and ``about`` give the same bytes.

    All targets are read before anything is written. `sam4mllm.data.shards.write_shards` describes how a folder changes.

    Args:
        targets: any number of targets, including none.
        folder: created if necessary. Samples in it are not changed.
        about: the settings and fingerprints the targets were made with, as JSON; stored in the index.

    Raises:
        UserError: if a mask occurs twice, or the folder cannot be written.
    """
    rows = list(targets)
    masks = Counter((target.sample_id, target.index) for target in rows)
    repeated = [mask for mask, count in masks.items() if count > 1]
    if repeated:
        sample_id, index = repeated[0]
        raise UserError(f"{len(repeated)} masks occur more than once, the first is mask {index} of {sample_id}")
    write_target_rows(map(target_to_json, rows), folder, about)


def write_target_rows(rows: Iterable[Mapping[str, Any]], folder: Path, about: Mapping[str, Any]) -> None:
    """Like `write_targets`, for rows that `target_to_json` made from different masks. Few rows are in memory at once.

    Raises:
        UserError: if the folder cannot be written.
    """
    write_shards(_KIND, rows, folder, {"about": dict(about)})


def read_about(folder: Path) -> dict[str, Any]:
    """The settings that the targets of a folder were made with. No shard is read.

    Raises:
        UserError: if the folder holds no targets, or targets of a newer version.
    """
    return dict(read_index(_KIND, folder)["about"])


def read_targets(folder: Path) -> dict[tuple[str, int], Target]:
    """The targets of a folder by sample id and mask index, in the order they were written.

    Raises:
        UserError: if the folder holds no targets, targets of a newer version of this package, or damaged shards.
    """
    _, targets = read_shards(_KIND, folder, target_from_json)
    return {(target.sample_id, target.index): target for target in targets}


def target_to_json(target: Target) -> dict[str, Any]:
    """A target as the row of a shard, or as JSON."""
    prompts = [
        {**asdict(prompt.extent), "points": [asdict(point) for point in prompt.points], "iou": score}
        for prompt, score in zip(target.prompts, target.ious, strict=True)
    ]
    return {"sample_id": target.sample_id, "index": target.index, "prompts": prompts, "ceiling": target.ceiling}


def target_from_json(row: dict[str, Any]) -> Target:
    """The target that `target_to_json` converted.

    Raises:
        UserError: if a box is invalid.
    """
    try:
        prompts = tuple(map(_prompt, row["prompts"]))
    except ValueError as error:  # undamaged pages of another writer can hold an invalid box
        raise UserError(f"the target of mask {row['index']} of {row['sample_id']} is damaged: {error}") from error
    ious = tuple(prompt["iou"] for prompt in row["prompts"])
    return Target(row["sample_id"], row["index"], prompts, ious, row["ceiling"])


def _prompt(record: dict[str, Any]) -> Prompt:
    points = tuple(Point(**point) for point in record["points"])
    return Prompt(Box(record["x0"], record["y0"], record["x1"], record["y1"]), points)
