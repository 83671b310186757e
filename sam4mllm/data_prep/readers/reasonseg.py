"""ReasonSeg -> Sample shards of train, val and test; its explanations -> Talk shards beside the training samples.

    sam4mllm data reasonseg --root downloads --out data/reasonseg

    ROOT/reason_seg/ReasonSeg/val/NAME.jpg, NAME.json     and train, test; ReasonSeg, or the splits, may lie in ROOT
    ROOT/reason_seg/ReasonSeg/explanatory/train.json      a list of {"image": "NAME.jpg", "query": ..., "outputs": ...}

One annotation file, and the sample that it becomes:

    {"text": ["the thing that keeps a person dry", "..."], "is_sentence": true,
     "shapes": [{"label": "target", "shape_type": "polygon", "points": [[167.84, 187.74], [141.57, 219.61], ...]},
                {"label": "ignore", ...}, {"label": "flag", ...}]}

    Sample(id="reasonseg-val-1109_sample_o-0", image="val/1109_sample_o.jpg", phrase="the thing that keeps a ...",
           masks=(Rle(...),), ignore=Rle(...), kind="sentence", source="reasonseg", split="val", ...)

As in the official reader (dvlab-research/LISA, `utils/data_processing.py`): shapes are painted largest first, their
borders too, each over those before it; a label with "ignore" in it counts neither way; "flag" is skipped. Evaluation
asks the first text of a picture alone; training asks all of them, phrases in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import Sample, check_below_root
from sam4mllm.data_prep.formats.plain import as_text, read_json
from sam4mllm.data_prep.formats.points import CUT, as_points, leave
from sam4mllm.data_prep.reading import Reading, is_training
from sam4mllm.data_prep.sources import REASONSEG
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.files import image_size
from sam4mllm.language.messages import Turn

SPLITS = ("train", "val", "test")
TARGET, IGNORE = 1, 255
THIN = "shapes of fewer than 3 corners, painted as lines or points as the official reader does"


def prepare(root: Path) -> Reading:
    """All samples of the splits that are there, by file name, and the explanations as talks.

    Args:
        root: holds the set's folder, or is it.

    Raises:
        UserError: where no split is there, and for files that are damaged or of another form.
    """
    home = find(root)
    noticed: dict[str, list[str]] = {
        "annotations without a picture, left out": [],
        "pictures without an annotation, left out": [],
        "annotations without a text": [],
        "pictures without a target": [],
        CUT: [],
        THIN: [],
    }
    there = [split for split in SPLITS if (home / split).is_dir()]
    splits = {split: list(_split(home, split, noticed)) for split in there}
    explained = _explained(home, noticed) if (home / "explanatory" / "train.json").is_file() else {}
    return Reading("reasonseg", home, splits, talks=explained, noticed=noticed)


def find(root: Path) -> Path:
    """The folder that holds the splits.

    Raises:
        UserError: where there is none.
    """
    places = [root / place for place in REASONSEG]
    for place in places:
        if any(next((place / split).glob("*.json"), None) for split in SPLITS):
            return place
    raise UserError(f"no ReasonSeg below {root}: one of {', '.join(SPLITS)} with its JSON files is due in {places[0]}")


def _split(home: Path, split: str, noticed: dict[str, list[str]]) -> Iterator[Sample]:
    stems = {kind: {path.stem for path in (home / split).glob(f"*.{kind}")} for kind in ("json", "jpg")}
    noticed["annotations without a picture, left out"] += sorted(f"{split}/{s}" for s in stems["json"] - stems["jpg"])
    noticed["pictures without an annotation, left out"] += sorted(f"{split}/{s}" for s in stems["jpg"] - stems["json"])
    for stem in sorted(stems["json"] & stems["jpg"]):
        path = home / split / f"{stem}.json"
        try:
            size, document = image_size(path.with_suffix(".jpg")), read_json(path)
            samples = _samples(document, split, stem, *size)
            _notice(document["shapes"], f"{split}/{stem}", size, noticed)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not as ReasonSeg has it: {type(error).__name__}: {error}") from error
        if not samples:
            noticed["annotations without a text"].append(f"{split}/{stem}")
        elif not samples[0].masks:
            noticed["pictures without a target"].append(f"{split}/{stem}")
        yield from samples


def _samples(document: Any, split: str, stem: str, width: int, height: int) -> list[Sample]:
    painted = paint(document["shapes"], height, width)
    target, ignore = (Rle.from_mask(painted == value) for value in (TARGET, IGNORE))
    sentence, texts = document["is_sentence"], document["text"]
    if not isinstance(sentence, bool) or not isinstance(texts, list):
        raise UserError(f"is_sentence is true or false and text is a list, got {shown(sentence)} and {shown(texts)}")
    texts = [as_text(text) for text in texts]
    return [
        Sample(
            id=f"reasonseg-{split}-{stem}-{number}",
            image=f"{split}/{stem}.jpg",
            width=width,
            height=height,
            phrase=_asked(text, split, sentence),
            masks=(target,) if target.area else (),
            ignore=ignore if ignore.area else None,
            source="reasonseg",
            split=split,
            kind="sentence" if sentence else "phrase",
            raw=text,
        )
        for number, text in enumerate(texts if is_training(split) else texts[:1])
    ]


def _asked(text: str, split: str, sentence: bool) -> str:
    """The words as the official readers ask them."""
    if is_training(split):
        return text if sentence else text.lower()
    return text.strip()


def _notice(shapes: Sequence[Any], name: str, size: tuple[int, int], noticed: Mapping[str, list[str]]) -> None:
    """Count what of the shapes that are painted looks odd; ``size`` is width and height."""
    for shape in _painted(shapes):
        xs, ys = zip(*as_points(shape["points"]), strict=True)
        who = f"{name}: {shape['label']}"
        if leave(xs, ys, size[1], size[0]):
            noticed[CUT].append(who)
        if len(xs) < 3:
            noticed[THIN].append(who)


def _painted(shapes: Sequence[Any]) -> list[Any]:
    return [shape for shape in shapes if as_text(shape["label"]).lower() != "flag"]


def paint(shapes: Sequence[Any], height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """`TARGET` and `IGNORE` where the last shape painted says so, 0 elsewhere.

    Raises:
        UserError: for points that are none.
    """
    valued = _painted(shapes)
    areas = [int(_filled(shape, height, width).sum()) for shape in valued]
    painted = np.zeros((height, width), np.uint8)
    for index in np.argsort(np.array(areas, dtype=np.uint64))[::-1]:
        covered = _filled(valued[index], height, width) == 1
        painted[covered] = IGNORE if "ignore" in valued[index]["label"].lower() else TARGET
    return painted


def _filled(shape: Any, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    corners = [np.array(as_points(shape["points"])).astype(np.int32)]  # towards zero, as the official reader has it
    canvas = np.zeros((height, width), np.uint8)
    cv2.polylines(canvas, corners, True, 1, 1)
    cv2.fillPoly(canvas, corners, 1)
    return canvas


def _explained(home: Path, noticed: dict[str, list[str]]) -> dict[str, list[Talk]]:
    path = home / "explanatory" / "train.json"
    talks, missing = list[Talk](), list[str]()
    try:
        for number, item in enumerate(read_json(path)):
            image = f"train/{item['image']}"
            check_below_root(image, f"{path}, item {number}")
            said = (Turn("user", as_text(item["query"])), Turn("assistant", as_text(item["outputs"])))
            if (home / image).is_file():
                size = image_size(home / image)
                talks.append(Talk(f"reasonseg-explanatory-{number}", image, *size, said, "reasonseg", "train"))
            else:
                missing.append(image)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not as ReasonSeg has it: {type(error).__name__}: {error}") from error
    noticed["explanations without a picture, left out"] = missing
    return {"train": talks}
