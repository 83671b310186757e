"""What is asked about which picture, as a person gives it: pictures, folders, phrases, a file of pairs, or by hand.

Everything is looked at here, before anything slow begins. Knows no model.

    image,phrase
    kitchen.jpg,the mug behind the kettle
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.images.files import images_in, read_image


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and what to look for in it; ``name`` is that of its files, unlike any other pair's."""

    image: Path
    phrase: str
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered: pairs, or one pair with the prompts that a person gave in place of a model."""

    pairs: tuple[Pair, ...]
    by_hand: tuple[Prompt, ...] = ()


def requested(
    pictures: Sequence[Path] = (),
    phrases: Sequence[str] = (),
    file: Path | None = None,
    boxes: Sequence[str] = (),
    clicks: Sequence[str] = (),
) -> Request:
    """What the words on a command line mean; every picture of it is read once, to see that it can be.

    Args:
        pictures: files and folders; with a file of pairs at most one folder, which its images are relative to.
        phrases: each is asked about each picture; with boxes at most one, as a caption.
        file: pairs in a file, in place of phrases (see `read_pairs`).
        boxes: by hand, for one picture (see `by_hand`).
        clicks: by hand.

    Raises:
        UserError: for what does not go together, and for anything in it that cannot be used.
    """
    if boxes or clicks:
        if file is not None or len(pictures) != 1 or pictures[0].is_dir() or len(phrases) > 1:
            raise UserError("a --box and --click by hand are for one picture, with at most one --phrase as its caption")
        height, width = read_image(pictures[0]).shape[:2]
        pair = Pair(pictures[0], "".join(phrases), f"{_slug(pictures[0].stem)}-{_slug(''.join(phrases) or 'by hand')}")
        return Request((pair,), by_hand(boxes, clicks, width, height))
    if file is not None:
        if phrases or len(pictures) > 1 or not all(path.is_dir() for path in pictures):
            raise UserError("--pairs names its own pictures and phrases: give at most the folder of its pictures")
        pairs = read_pairs(file, *pictures)
    elif pictures and phrases:
        pairs = pairs_of(pictures_of(pictures), phrases)
    else:
        raise UserError("give pictures and a --phrase, or a file of --pairs, or a picture and a --box")
    for picture in dict.fromkeys(pair.image for pair in pairs):
        read_image(picture)
    return Request(tuple(pairs))


def pictures_of(paths: Sequence[Path]) -> list[Path]:
    """The pictures that were named: files as they stand, folders by the pictures in them; each once, in order.

    Raises:
        UserError: for a path that is not there, or a folder without pictures.
    """
    found = [picture for path in paths for picture in (images_in(path) if path.is_dir() else [path])]
    for picture in found:
        if not picture.exists():
            raise UserError(f"no such file: {picture}")
    return list(dict.fromkeys(found))


def pairs_of(pictures: Sequence[Path], phrases: Sequence[str]) -> list[Pair]:
    """Every phrase about every picture, picture by picture.

    Raises:
        UserError: for an empty phrase.
    """
    return _named([(picture, phrase, "--phrase") for picture in pictures for phrase in phrases])


def read_pairs(file: Path, root: Path | None = None) -> list[Pair]:
    """The pairs of a file: CSV with a header, or JSON lines, with ``image`` and ``phrase``; more columns do no harm.

    Args:
        file: ends in ``.csv`` or ``.jsonl``; UTF-8.
        root: what image paths are relative to; the file's own folder where None.

    Raises:
        UserError: naming the file and line, for anything else, a picture that is not there, or an empty phrase.
    """
    rows = _rows(file)
    base = file.parent if root is None else root
    if not rows:
        raise UserError(f"{file} holds no pairs")
    for where, row in rows:
        for column in ("image", "phrase"):
            if not isinstance(row.get(column), str):
                raise UserError(f"{where}: a pair has an image and a phrase, both text; {column} is missing")
        if not (base / row["image"]).is_file():
            raise UserError(f"{where}: no such file: {base / row['image']}")
    return _named([(base / row["image"], row["phrase"], where) for where, row in rows])


def by_hand(boxes: Sequence[str], clicks: Sequence[str], width: int, height: int) -> tuple[Prompt, ...]:
    """Boxes and clicks as a person types them, in pixels of a picture of width x height.

    With one box all clicks are its own; with several, a click is of the smallest box that holds it.

    Args:
        boxes: ``x0,y0,x1,y1``; cut to the picture.
        clicks: ``x,y,+`` on the object or ``x,y,-`` off it.
        width: of the picture.
        height: of the picture.

    Raises:
        UserError: for anything else, clicks without a box or in none, and places off the picture.
    """
    if clicks and not boxes:
        raise UserError("a --click needs a --box")
    drawn = [_box(text, width, height) for text in boxes]
    points: list[list[Point]] = [[] for _ in drawn]
    for text in clicks:
        point = _click(text, width, height)
        holding = [
            index
            for index, box in enumerate(drawn)
            if len(drawn) == 1 or (box.x0 <= point.x < box.x1 and box.y0 <= point.y < box.y1)
        ]
        if not holding:
            raise UserError(f"the click {text} lies in none of the {len(drawn)} boxes")
        points[min(holding, key=lambda index: drawn[index].area)].append(point)
    return tuple(Prompt(box, tuple(own)) for box, own in zip(drawn, points, strict=True))


def _named(rows: Sequence[tuple[Path, str, str]]) -> list[Pair]:
    """Pairs with names that are safe on any file system, told apart by a number where two would be alike."""
    taken: set[str] = set()
    pairs = []
    for image, phrase, where in rows:
        if not phrase.strip():
            raise UserError(f"{where}: a phrase is empty: say what to look for in {image}")
        stem = f"{_slug(image.stem)}-{_slug(phrase)}"
        name = next(name for n in count(1) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)
        taken.add(name)
        pairs.append(Pair(image, phrase, name))
    return pairs


def _slug(text: str) -> str:
    """Lower-case letters, digits and single dashes, at most 60: of ASCII, or of its own script where none is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    own = unicodedata.normalize("NFC", text).lower()[:30]  # of up to four bytes each; a name has room for 255
    found = (re.sub(letters, "-", name)[:60].strip("-") for letters, name in ((r"[^a-z0-9]+", plain), (r"[\W_]+", own)))
    return next(filter(None, found), "x")


def _rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Each row with where it stands, for messages."""
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise UserError(f"pairs are a .csv or .jsonl file, got {file}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UserError(f"cannot read {file}: it is not UTF-8") from None
    if file.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            return [(f"{file} line {reader.line_num}", row) for row in reader]
        except csv.Error as error:
            raise UserError(f"{file} line {reader.line_num + 1}: {error}") from None
    lines = [(f"{file} line {number}", line) for number, line in enumerate(io.StringIO(text), 1) if line.strip()]
    return [(where, _json_row(where, line)) for where, line in lines]


def _json_row(where: str, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a pair is an object with image and phrase")
    return row


def _box(text: str, width: int, height: int) -> Box:
    try:
        box = Box(*(float(number) for number in text.split(","))).clip(width, height)
    except (ValueError, TypeError):
        raise UserError(f"a --box is x0,y0,x1,y1 with x0 <= x1 and y0 <= y1, got {text!r}") from None
    if not box.area:
        raise UserError(f"the box {text} holds nothing of the picture of {width} x {height} pixels")
    return box


def _click(text: str, width: int, height: int) -> Point:
    try:
        x, y, sign = text.split(",")
        point = Point(float(x), float(y), positive={"+": True, "-": False}[sign.strip()])
    except (ValueError, KeyError):
        raise UserError(f"a --click is x,y,+ on the object or x,y,- off it, got {text!r}") from None
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise UserError(f"the click {text} lies off the picture of {width} x {height} pixels")
    return point
