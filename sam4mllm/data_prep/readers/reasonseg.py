"""ReasonSeg -> Sample shards of train, val and test; its explanations -> Talk shards in the folder of train.

    sam4mllm data reasonseg --root downloads --out data/reasonseg

    ROOT/reason_seg/ReasonSeg/val/NAME.jpg, NAME.json     and train, test; ReasonSeg, or the splits, may be in ROOT
    ROOT/reason_seg/ReasonSeg/explanatory/train.json      a list of {"image": "NAME.jpg", "query": ..., "outputs": ...}

An annotation file, and its sample:

    {"text": ["the thing that keeps a person dry", "..."], "is_sentence": true,
     "shapes": [{"label": "target", "shape_type": "polygon", "points": [[167.84, 187.74], [141.57, 219.61], ...]},
                {"label": "ignore", ...}, {"label": "flag", ...}]}

    Sample(id="reasonseg-val-1109_sample_o-0", image="val/1109_sample_o.jpg", phrase="the thing that keeps a ...",
           masks=(Rle(...),), ignore=Rle(...), kind="sentence", source="reasonseg", split="val", ...)

As in the official reader (dvlab-research/LISA, `utils/data_processing.py`), shapes are painted with their borders, the
largest first, each over the shapes before it. Pixels of a label that contains "ignore" are ignored; "flag" is skipped.
Evaluation uses only the first text of an image. Training uses all texts, with phrases in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample, check_below_root
from sam4mllm.data_prep.formats.points import CUT, is_outside, parse_points
from sam4mllm.data_prep.formats.safe_io import check_text, format_errors_as_user_errors, read_json
from sam4mllm.data_prep.raw_dataset import RawDataset, is_training
from sam4mllm.data_prep.sources import REASONSEG
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import image_size
from sam4mllm.language.messages import Turn

SPLITS = ("train", "val", "test")
TARGET, IGNORE = 1, 255
WITHOUT_IMAGE = "annotations without an image, left out"
WITHOUT_ANNOTATION = "images without an annotation, left out"
WITHOUT_TEXT = "annotations without a text"
WITHOUT_TARGET = "images without a target"
THIN = "shapes of fewer than 3 corners, painted as lines or points as the official reader does"
UNEXPLAINED = "explanations without an image, left out"


def prepare(root: Path) -> RawDataset:
    """All samples of the splits that exist, by file name, and the explanations as talks.

    Args:
        root: contains the folder of the data set, or is that folder.

    Raises:
        UserError: if no split exists, and for files that are damaged or of another form.
    """
    homes = [root / place for place in REASONSEG]
    home = next((home for home in homes if any(any((home / split).glob("*.json")) for split in SPLITS)), None)
    if home is None:
        raise UserError(
            f"no ReasonSeg below {root}: expected one of {', '.join(SPLITS)} with its JSON files in {homes[0]}"
        )
    kinds = (WITHOUT_IMAGE, WITHOUT_ANNOTATION, WITHOUT_TEXT, WITHOUT_TARGET, CUT, THIN)
    noticed: dict[str, list[str]] = {kind: [] for kind in kinds}
    splits = {split: _read_split(home, split, noticed) for split in SPLITS if (home / split).is_dir()}
    explanations = home / "explanatory" / "train.json"
    conversations = {"train": _read_explanations(explanations, home, noticed)} if explanations.is_file() else {}
    return RawDataset("reasonseg", home, splits, conversations=conversations, noticed=noticed)


def _read_split(home: Path, split: str, noticed: dict[str, list[str]]) -> list[Sample]:
    annotations, images = ({path.stem for path in (home / split).glob(f"*.{kind}")} for kind in ("json", "jpg"))
    noticed[WITHOUT_IMAGE] += sorted(f"{split}/{stem}" for stem in annotations - images)
    noticed[WITHOUT_ANNOTATION] += sorted(f"{split}/{stem}" for stem in images - annotations)
    samples = []
    for stem in sorted(annotations & images):
        path = home / split / f"{stem}.json"
        document = read_json(path)
        with format_errors_as_user_errors(path, "ReasonSeg"):
            size = image_size(path.with_suffix(".jpg"))
            samples_of_file = _make_samples(document, split, stem, *size)
            _notice_shapes(document["shapes"], f"{split}/{stem}", *size, noticed)
        if not samples_of_file:
            noticed[WITHOUT_TEXT].append(f"{split}/{stem}")
        elif not samples_of_file[0].masks:
            noticed[WITHOUT_TARGET].append(f"{split}/{stem}")
        samples += samples_of_file
    return samples


def _make_samples(document: Any, split: str, stem: str, width: int, height: int) -> list[Sample]:
    labels = paint_labels(document["shapes"], height, width)
    target, ignore = (Rle.from_mask(labels == value) for value in (TARGET, IGNORE))
    is_sentence, texts = document["is_sentence"], document["text"]
    if not isinstance(is_sentence, bool) or not isinstance(texts, list):
        raise UserError(
            f"is_sentence must be true or false and text a list, got {short_repr(is_sentence)} and {short_repr(texts)}"
        )
    texts = [check_text(text) for text in texts]
    return [
        Sample(
            id=f"reasonseg-{split}-{stem}-{number}",
            image=f"{split}/{stem}.jpg",
            width=width,
            height=height,
            phrase=_normalise(text, split, is_sentence),
            masks=(target,) if target.area else (),
            ignore=ignore if ignore.area else None,
            source="reasonseg",
            split=split,
            kind="sentence" if is_sentence else "phrase",
            raw=text,
        )
        for number, text in enumerate(texts if is_training(split) else texts[:1])
    ]


def _normalise(text: str, split: str, is_sentence: bool) -> str:
    """The text as the official readers of training and evaluation normalise it."""
    if is_training(split):
        return text if is_sentence else text.lower()
    return text.strip()


def _notice_shapes(shapes: Sequence[Any], name: str, width: int, height: int, noticed: dict[str, list[str]]) -> None:
    for shape in _without_flags(shapes):
        xs, ys = zip(*parse_points(shape["points"]), strict=True)
        if is_outside(xs, ys, height, width):
            noticed[CUT].append(f"{name}: {shape['label']}")
        if len(xs) < 3:
            noticed[THIN].append(f"{name}: {shape['label']}")


def _without_flags(shapes: Sequence[Any]) -> list[Any]:
    return [shape for shape in shapes if check_text(shape["label"]).lower() != "flag"]


def paint_labels(shapes: Sequence[Any], height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """The label of each pixel: `TARGET` or `IGNORE` by the last shape painted over it, else 0.

    Raises:
        UserError: for invalid points.
    """
    masks = [
        (_paint_shape(shape, height, width), IGNORE if "ignore" in shape["label"].lower() else TARGET)
        for shape in _without_flags(shapes)
    ]
    areas = [int(mask.sum()) for mask, _ in masks]
    labels = np.zeros((height, width), np.uint8)
    for index in np.argsort(np.array(areas, dtype=np.uint64))[::-1]:
        mask, label = masks[index]
        labels[mask == 1] = label
    return labels


def _paint_shape(shape: Any, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    corners = [np.array(parse_points(shape["points"])).astype(np.int32)]  # truncated, as in the official reader
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, corners, True, 1, 1)
    cv2.fillPoly(mask, corners, 1)
    return mask


def _read_explanations(path: Path, home: Path, noticed: dict[str, list[str]]) -> list[Conversation]:
    conversations, document = [], read_json(path)
    noticed[UNEXPLAINED] = []
    with format_errors_as_user_errors(path, "ReasonSeg"):
        for number, item in enumerate(document):
            image = f"train/{item['image']}"
            check_below_root(image, f"item {number}")
            turns = (Turn("user", check_text(item["query"])), Turn("assistant", check_text(item["outputs"])))
            if (home / image).is_file():
                size = image_size(home / image)
                conversations.append(
                    Conversation(f"reasonseg-explanatory-{number}", image, *size, turns, "reasonseg", "train")
                )
            else:
                noticed[UNEXPLAINED].append(image)
    return conversations
