"""Parses the inputs of `sam4mllm infer`: images, folders, phrases, a file of pairs, or boxes and clicks.

All inputs are checked here, before any slow work starts. A CSV file of pairs:

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
from sam4mllm.images.files import list_images, read_image


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and a phrase to segment in it. ``name`` is the unique stem of the pair's output files."""

    image: Path
    phrase: str
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """The pairs to answer, or one pair with prompts that the user set instead of a model."""

    pairs: tuple[Pair, ...]
    by_hand: tuple[Prompt, ...] = ()


def parse_request(
    paths: Sequence[Path] = (),
    phrases: Sequence[str] = (),
    file: Path | None = None,
    boxes: Sequence[str] = (),
    clicks: Sequence[str] = (),
) -> Request:
    """The request that the command line describes. Every image is read once to check it.

    Args:
        paths: image files and folders. With a file of pairs at most one folder, the base of its image paths.
        phrases: each is combined with each image. With boxes at most one, as a caption.
        file: a file of pairs, instead of phrases (see `read_pairs`).
        boxes: boxes for one image (see `parse_user_prompts`).
        clicks: clicks for one image.

    Raises:
        UserError: if the arguments cannot be combined, or one of them is invalid.
    """
    if boxes or clicks:
        if file is not None or len(paths) != 1 or paths[0].is_dir() or len(phrases) > 1:
            raise UserError("--box and --click need exactly one image, with at most one --phrase as its caption")
        height, width = read_image(paths[0]).shape[:2]
        pair = Pair(paths[0], "".join(phrases), f"{_slug(paths[0].stem)}-{_slug(''.join(phrases) or 'by hand')}")
        return Request((pair,), parse_user_prompts(boxes, clicks, width, height))
    if file is not None:
        if phrases or len(paths) > 1 or not all(path.is_dir() for path in paths):
            raise UserError("--pairs sets the images and phrases: give at most the folder of its images")
        pairs = read_pairs(file, *paths)
    elif paths and phrases:
        pairs = combine(find_images(paths), phrases)
    else:
        raise UserError("give images and a --phrase, or a file of --pairs, or an image and a --box")
    for image in dict.fromkeys(pair.image for pair in pairs):
        read_image(image)
    return Request(tuple(pairs))


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files in these paths, in order and without duplicates. Folders stand for the images in them.

    Raises:
        UserError: if a path does not exist, or a folder contains no images.
    """
    files = [file for path in paths for file in (list_images(path) if path.is_dir() else [path])]
    for file in files:
        if not file.exists():
            raise UserError(f"no such file: {file}")
    return list(dict.fromkeys(files))


def combine(paths: Sequence[Path], phrases: Sequence[str]) -> list[Pair]:
    """Every image with every phrase, image by image.

    Raises:
        UserError: if a phrase is empty.
    """
    return _with_names([(image, phrase, "--phrase") for image in paths for phrase in phrases])


def read_pairs(file: Path, root: Path | None = None) -> list[Pair]:
    """The pairs of a file: CSV with a header, or JSON Lines, with ``image`` and ``phrase``. Other columns are ignored.

    Args:
        file: ends in ``.csv`` or ``.jsonl``; UTF-8.
        root: the base of relative image paths; the folder of ``file`` by default.

    Raises:
        UserError: if the file or a row is invalid, an image does not exist, or a phrase is empty; it names file and
            line.
    """
    rows = _rows(file)
    base = file.parent if root is None else root
    if not rows:
        raise UserError(f"{file} contains no pairs")
    for location, row in rows:
        for column in ("image", "phrase"):
            if not isinstance(row.get(column), str):
                raise UserError(
                    f"{location}: a pair needs the columns image and phrase, both text; {column} is missing"
                )
        if not (base / row["image"]).is_file():
            raise UserError(f"{location}: no such file: {base / row['image']}")
    return _with_names([(base / row["image"], row["phrase"], location) for location, row in rows])


def parse_user_prompts(boxes: Sequence[str], clicks: Sequence[str], width: int, height: int) -> tuple[Prompt, ...]:
    """Prompts from boxes and clicks as text, in pixels of an image of width x height.

    Without a box all clicks belong to one object; with one box all belong to it. With several, a click belongs to the
    smallest box that contains it.

    Args:
        boxes: ``x0,y0,x1,y1``; clipped to the image.
        clicks: ``x,y,+`` on the object or ``x,y,-`` off it.
        width: of the image.
        height: of the image.

    Raises:
        UserError: if a text is invalid, a place is outside the image, a click is in none of several boxes, or clicks
            without a box are all off the object.
    """
    if clicks and not boxes:
        clicked = tuple(_click(text, width, height) for text in clicks)
        if not any(point.positive for point in clicked):
            raise UserError("--click x,y,- needs a --box, or a --click x,y,+ on the object")
        return (Prompt(None, clicked),)
    parsed_boxes = [_box(text, width, height) for text in boxes]
    points: list[list[Point]] = [[] for _ in parsed_boxes]
    for text in clicks:
        point = _click(text, width, height)
        candidates = [
            index
            for index, box in enumerate(parsed_boxes)
            if len(parsed_boxes) == 1 or (box.x0 <= point.x < box.x1 and box.y0 <= point.y < box.y1)
        ]
        if not candidates:
            raise UserError(f"the click {text} is in none of the {len(parsed_boxes)} boxes")
        points[min(candidates, key=lambda index: parsed_boxes[index].area)].append(point)
    return tuple(Prompt(box, tuple(box_points)) for box, box_points in zip(parsed_boxes, points, strict=True))


def _with_names(rows: Sequence[tuple[Path, str, str]]) -> list[Pair]:
    """Pairs with names that are safe on any file system. A number is appended to repeated names."""
    used_names: set[str] = set()
    pairs = []
    for image, phrase, location in rows:
        if not phrase.strip():
            raise UserError(f"{location}: the phrase for {image} is empty: set a phrase")
        stem = f"{_slug(image.stem)}-{_slug(phrase)}"
        name = next(
            name for number in count(1) if (name := stem if number == 1 else f"{stem}-{number}") not in used_names
        )
        used_names.add(name)
        pairs.append(Pair(image, phrase, name))
    return pairs


def _slug(text: str) -> str:
    """Lower-case letters, digits and single dashes, at most 60 characters; in ASCII, or the text's own script."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    original_text = unicodedata.normalize("NFC", text).lower()[
        :30
    ]  # up to four bytes each; file names are limited to 255 bytes
    slugs = (
        re.sub(letters, "-", name)[:60].strip("-")
        for letters, name in ((r"[^a-z0-9]+", ascii_text), (r"[\W_]+", original_text))
    )
    return next(filter(None, slugs), "x")


def _rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Each row with its location in the file, for error messages."""
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise UserError(f"--pairs needs a .csv or .jsonl file, got {file}")
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
    return [(location, _json_row(location, line)) for location, line in lines]


def _json_row(location: str, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{location}: not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise UserError(f"{location}: a pair must be an object with image and phrase")
    return row


def _box(text: str, width: int, height: int) -> Box:
    try:
        box = Box(*(float(number) for number in text.split(","))).clip(width, height)
    except (ValueError, TypeError):
        raise UserError(f"--box must be x0,y0,x1,y1 with x0 <= x1 and y0 <= y1, got {text!r}") from None
    if not box.area:
        raise UserError(f"the box {text} does not overlap the image of {width} x {height} pixels")
    return box


def _click(text: str, width: int, height: int) -> Point:
    try:
        x, y, sign = text.split(",")
        point = Point(float(x), float(y), positive={"+": True, "-": False}[sign.strip()])
    except (ValueError, KeyError):
        raise UserError(f"--click must be x,y,+ on the object or x,y,- off it, got {text!r}") from None
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise UserError(f"the click {text} is outside the image of {width} x {height} pixels")
    return point
