"""LLaVA-Instruct -> Talk shards: questions and answers about pictures without any mask, the mixture's VQA part.

    sam4mllm data llava_instruct --root downloads --out data/llava_instruct

    ROOT/llava_instruct/llava_instruct_150k.json     or llava_dataset/, or in ROOT itself
    ROOT/images/train2014/COCO_train2014_*.jpg       or train2017/*.jpg there, in images/mscoco/images, coco or ROOT
                                                     itself; or `--images`, which holds train2017 or train2014

One conversation, and the talk that it becomes:

    {"id": "000000033471", "image": "000000033471.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhat are the colors of the bus in the image?"},
        {"from": "gpt", "value": "The bus in the image is white and red."}, ...]}

    Talk(id="llava_instruct-0-000000033471", image="train2017/000000033471.jpg", width=640, height=480,
         turns=(Turn("user", "What are the colors of the bus in the image?"), Turn("assistant", "The bus ...")), ...)

As in the readers of LLaVA and LISA: the mark ``<image>`` and the white space around what is left go, a first turn that
is not the human's goes. A conversation whose turns do not alternate, or without a picture, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import check_below_root
from sam4mllm.data_prep.formats.plain import as_text, read_json
from sam4mllm.data_prep.reading import Reading
from sam4mllm.data_prep.sources import LLAVA, LLAVA_PICTURES
from sam4mllm.errors import UserError
from sam4mllm.images.files import image_size
from sam4mllm.language.messages import Turn

ROLES: Mapping[str, Literal["user", "assistant"]] = MappingProxyType({"human": "user", "gpt": "assistant"})
YEARS: Mapping[str, str] = MappingProxyType({"train2017": "", "train2014": "COCO_train2014_"})  # what names begin with
MARK = "<image>"
MISSING, NONE, ORDER = (
    "talks whose picture is missing, left out",
    "talks about no picture, left out",
    "talks whose turns do not alternate, left out",
)


def prepare(root: Path, images: Path | None = None) -> Reading:
    """All conversations, in the file's order, as the split train.

    Args:
        root: holds the file, and the pictures in one of the places in use.
        images: holds train2017 or train2014, if not below ``root``.

    Raises:
        UserError: for a file that is missing, damaged or of another form, and where no picture is found.
    """
    path = find(root)
    home, name_of = _pictures(
        [images / year for year in YEARS] if images else [root / place for place in LLAVA_PICTURES]
    )
    noticed: dict[str, list[str]] = {MISSING: [], NONE: [], ORDER: []}
    size_of = lru_cache(None)(image_size)
    talks = []
    document = read_json(path)
    try:
        for number, item in enumerate(document):
            name, turns = f"{number}-{item['id']}", _turns(item["conversations"])
            image = name_of(as_text(item["image"])) if item.get("image") else None
            if image is not None:
                check_below_root(image, f"{path}, conversation {number}")
            wrong = _wrong(image, turns, home)
            if wrong:
                noticed[wrong].append(name)
            else:
                talk = f"llava_instruct-{name}"
                talks.append(Talk(talk, str(image), *size_of(home / str(image)), turns, "llava_instruct", "train"))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not as LLaVA has it: {type(error).__name__}: {error}") from error
    return Reading("llava_instruct", home, talks={"train": talks}, noticed=noticed)


def find(root: Path) -> Path:
    """Where the conversations lie.

    Raises:
        UserError: where they do not.
    """
    places = [root / place for place in LLAVA]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"no such file: {places[0]}")
    return found


def _pictures(places: list[Path]) -> tuple[Path, Callable[[str], str]]:
    """The image root, and what COCO's picture of a name (those of 2017) is called below it."""
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise UserError(f"no pictures of COCO: one of these folders is due: {', '.join(map(str, places))}")
    return place.parent, lambda name: f"{place.name}/{YEARS[place.name]}{name}"


def _wrong(image: str | None, turns: tuple[Turn, ...], home: Path) -> str | None:
    """Why a conversation is left out, if it is."""
    if image is None:
        return NONE
    if not turns or [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        return ORDER
    return None if (home / image).is_file() else MISSING


def _turns(conversation: list[Any]) -> tuple[Turn, ...]:
    turns = tuple(Turn(ROLES[said["from"]], as_text(said["value"]).replace(MARK, "").strip()) for said in conversation)
    return turns[1:] if turns and turns[0].role != "user" else turns
