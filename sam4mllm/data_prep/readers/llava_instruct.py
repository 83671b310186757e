"""LLaVA-Instruct -> Talk shards: conversations about images without masks, the VQA part of the training mixture.

    sam4mllm data llava_instruct --root downloads --out data/llava_instruct

    ROOT/llava_instruct/llava_instruct_150k.json     or llava_dataset/, or in ROOT itself
    ROOT/images/train2014/COCO_train2014_*.jpg       or train2017/*.jpg there, in images/mscoco/images, coco or ROOT
                                                     itself; or `--images`, which contains train2017 or train2014

A conversation, and its talk:

    {"id": "000000033471", "image": "000000033471.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat are the colors of the bus in the image?"},
        {"from": "gpt", "value": "The bus in the image is white and red."}, ...]}

    Talk(id="llava_instruct-0-000000033471", image="train2017/000000033471.jpg", width=640, height=480,
         turns=(Turn("user", "What are the colors of the bus in the image?"), Turn("assistant", "The bus ...")), ...)

As in the readers of LLaVA and LISA, the mark ``<image>`` and outer white space are removed, and so is a first turn that
is not the human's. A conversation without an image, or with turns that do not alternate, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import check_below_root
from sam4mllm.data_prep.formats.safe_io import check_text, format_errors_as_user_errors, read_json
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.data_prep.sources import LLAVA, LLAVA_IMAGES
from sam4mllm.errors import UserError
from sam4mllm.images.files import image_size
from sam4mllm.language.messages import Turn

ROLES: Mapping[str, Literal["user", "assistant"]] = MappingProxyType({"human": "user", "gpt": "assistant"})
PREFIXES: Mapping[str, str] = MappingProxyType({"train2017": "", "train2014": "COCO_train2014_"})  # of file names
MISSING = "conversations without their image, left out"
WITHOUT_IMAGE = "conversations without an image name, left out"
NOT_ALTERNATING = "conversations with turns that do not alternate, left out"


def prepare(root: Path, images: Path | None = None) -> RawDataset:
    """All conversations, in the order of the file, as the split train.

    Args:
        root: contains the file, and the images in one of the usual locations.
        images: contains train2017 or train2014, if not below ``root``.

    Raises:
        UserError: if the file is missing, damaged or of another form, or no folder of images exists.
    """
    path = next((root / place for place in LLAVA if (root / place).is_file()), None)
    if path is None:
        raise UserError(f"no such file: {root / LLAVA[0]}")
    folders = [images / year for year in PREFIXES] if images else [root / place for place in LLAVA_IMAGES]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise UserError(f"no images of COCO: expected one of these folders: {', '.join(map(str, folders))}")
    noticed: dict[str, list[str]] = {MISSING: [], WITHOUT_IMAGE: [], NOT_ALTERNATING: []}
    size_of = lru_cache(None)(image_size)
    conversations, document = [], read_json(path)
    with format_errors_as_user_errors(path, "LLaVA"):
        for number, item in enumerate(document):
            name, turns = f"{number}-{item['id']}", _turns(item["conversations"])
            image = f"{folder.name}/{PREFIXES[folder.name]}{check_text(item['image'])}" if item.get("image") else ""
            if image:
                check_below_root(image, f"conversation {number}")
            if reason := _reason_to_leave_out(image, turns, folder.parent):
                noticed[reason].append(name)
            else:
                size = size_of(folder.parent / image)
                conversations.append(
                    Conversation(f"llava_instruct-{name}", image, *size, turns, "llava_instruct", "train")
                )
    return RawDataset("llava_instruct", folder.parent, conversations={"train": conversations}, noticed=noticed)


def _reason_to_leave_out(image: str, turns: tuple[Turn, ...], images: Path) -> str:
    if not image:
        return WITHOUT_IMAGE
    if not turns or [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        return NOT_ALTERNATING
    return "" if (images / image).is_file() else MISSING


def _turns(conversation: list[Any]) -> tuple[Turn, ...]:
    turns = tuple(
        Turn(ROLES[turn["from"]], check_text(turn["value"]).replace("<image>", "").strip()) for turn in conversation
    )
    return turns[1:] if turns and turns[0].role != "user" else turns
