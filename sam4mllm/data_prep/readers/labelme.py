"""Your own data, 2: folders of LabelMe's JSON files -> Sample shards; a label is a phrase.

    sam4mllm data labelme --root downloads --out data/labelme
    sam4mllm data labelme --root my_photos --out data/my_photos

    ROOT/labelme/a.json, a.jpg     one split, `--split` (train); all may be in ROOT itself, without other JSON files
    ROOT/labelme/val/b.json, ...   a top-level folder train, val or test is a split; other folders are not

A file, and a sample of it. Shapes with the same label become one sample, with a mask per group or shape without group:

    {"version": "5.5.0", "imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null,
     "shapes": [{"label": "the red mug", "shape_type": "polygon", "group_id": null, "points": [[10.5, 20.0], ...]}]}

    Sample(id="labelme-train-a-0", image="a.jpg", phrase="the red mug", masks=(Rle(...),), source="labelme", ...)

Shapes with an area are painted as in LabelMe, with their borders: polygon, rectangle, oriented_rectangle, circle, and
mask (a PNG in the file). Points, lines and linestrips have no area; they are left out and counted.
Source: wkentaro/labelme (`shape.py`).
"""

from __future__ import annotations

import base64
import io
import math
import os
import warnings
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Bool

from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.formats.points import CUT, is_outside, parse_points
from sam4mllm.data_prep.formats.safe_io import check_integer, check_text, format_errors_as_user_errors, read_json
from sam4mllm.data_prep.raw_dataset import RawDataset
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import MAX_PIXELS, Rle

# the number of points of each kind of shape; None: three or more
POINT_COUNTS = {"polygon": None, "rectangle": 2, "oriented_rectangle": 4, "circle": 2, "mask": 2}
FIELDS = frozenset({"imagePath", "imageHeight", "imageWidth", "shapes"})
SPLITS = ("train", "val", "test")
LEFT_OUT = "shapes without an area, left out"
WITHOUT_OBJECT = "images without an object"


def prepare(root: Path, split: str = "train") -> RawDataset:
    """All samples, by split, in the order of the file names and of the shapes in each file.

    Args:
        root: contains the folder labelme, or is that folder: the image root, with JSON files in folders of any depth.
        split: split of the files outside the folders train, val and test.

    Raises:
        UserError: if there are no files, and for files that are damaged or of another form.
    """
    home = root / "labelme" if (root / "labelme").is_dir() else root
    splits: dict[str, list[Sample]] = {}
    noticed: dict[str, list[str]] = {LEFT_OUT: [], CUT: [], WITHOUT_OBJECT: []}
    for path in sorted(home.rglob("*.json")):
        folder = path.relative_to(home).parts[0]
        split_of_file = folder if path.parent != home and folder in SPLITS else split
        splits.setdefault(split_of_file, []).extend(_read_file(path, home, split_of_file, noticed))
    if not splits:
        raise UserError(f"no LabelMe files in {home}: expected NAME.json in the folder of each image")
    return RawDataset("labelme", home, splits, noticed=noticed, reads_all_json=True)


def _read_file(path: Path, home: Path, split: str, noticed: dict[str, list[str]]) -> list[Sample]:
    name = path.relative_to(home).with_suffix("").as_posix()
    document = read_json(path)
    if not isinstance(document, dict) or not document.keys() >= FIELDS:
        raise UserError(
            f"{path} is not a LabelMe file, which has {', '.join(sorted(FIELDS))}: move it, or give --root a folder "
            f"with LabelMe files only"
        )
    with format_errors_as_user_errors(path, "LabelMe"):
        height, width = check_integer(document["imageHeight"]), check_integer(document["imageWidth"])
        image = _image_path(check_text(document["imagePath"]), PurePosixPath(name).parent)
        masks_by_label = _read_shapes(document["shapes"], (height, width), name, noticed)
        if not masks_by_label:
            noticed[WITHOUT_OBJECT].append(name)
        return [
            Sample(
                id=f"labelme-{split}-{name}-{number}",
                image=image,
                width=width,
                height=height,
                phrase=label,
                masks=masks,
                source="labelme",
                split=split,
                raw=label,
            )
            for number, (label, masks) in enumerate(masks_by_label.items())
        ]


def _image_path(path: str, folder: PurePosixPath) -> str:
    """The image path relative to the root. LabelMe stores it relative to the JSON file; on Windows with backslashes."""
    windows_path = PureWindowsPath(path)
    if windows_path.is_absolute() or windows_path.drive or windows_path.root:
        raise UserError(f"its imagePath {path!r} is absolute, and images must be below the root")
    return os.path.normpath(folder / windows_path.as_posix())


def _read_shapes(
    shapes: Any, size: tuple[int, int], name: str, noticed: dict[str, list[str]]
) -> dict[str, tuple[Rle, ...]]:
    """The masks of each label: one per group, and one per shape without a group."""
    masks_by_label: dict[str, dict[object, Bool[np.ndarray, "h w"]]] = {}
    for number, shape in enumerate(shapes):
        label, kind = check_text(shape["label"]), check_text(shape.get("shape_type") or "polygon")
        if kind not in POINT_COUNTS:
            noticed[LEFT_OUT].append(f"{name}: {kind} {label!r}")
            continue
        group = shape.get("group_id")
        key = ("shape", number) if group is None else ("group", group)
        mask, is_cut = paint_shape(shape, kind, size)
        if is_cut:
            noticed[CUT].append(f"{name}: {kind} {label!r}")
        masks = masks_by_label.setdefault(label, {})
        masks[key] = masks[key] | mask if key in masks else mask
    return {label: tuple(map(Rle.from_mask, masks.values())) for label, masks in masks_by_label.items()}


def paint_shape(shape: Any, kind: str, size: tuple[int, int]) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """The mask of a shape in an image of ``size`` (height, width), and whether the shape leaves the image and is cut.

    Raises:
        UserError: for invalid points, a wrong number of points, or an invalid size.
    """
    height, width = size
    if min(size) < 1 or height * width > MAX_PIXELS:
        raise UserError(f"an image must have 1 to {MAX_PIXELS} pixels, got {width} x {height}")
    points, count = parse_points(shape["points"]), POINT_COUNTS[kind]
    if len(points) != count if count else len(points) < 3:
        raise UserError(f"a {kind} has {count or '3 or more'} points, got {points!r:.60}")
    canvas = PIL.Image.new("1", (width, height))
    draw = PIL.ImageDraw.Draw(canvas)
    match kind:
        case "mask":  # a PNG, placed by its upper left corner
            patch = PIL.Image.fromarray(_read_patch(base64.b64decode(shape["mask"])))
            offset = round(points[0][0]), round(points[0][1])
            canvas.paste(patch, offset)
            points = [offset, (offset[0] + patch.width, offset[1] + patch.height)]
        case "circle":
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            points = [(x - radius, y - radius), (x + radius, y + radius)]
            draw.ellipse(points, outline=1, fill=1)
        case "rectangle":
            (x0, y0), (x1, y1) = points
            draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], outline=1, fill=1)
        case _:
            draw.polygon(points, outline=1, fill=1)
    xs, ys = zip(*points, strict=True)
    return np.array(canvas, dtype=bool), is_outside(xs, ys, *size)


def _read_patch(png: bytes) -> Bool[np.ndarray, "h w"]:
    """The pixels of a PNG that are not black.

    Raises:
        UserError: if the PNG claims more pixels than Pillow opens.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # for half as many pixels
            with PIL.Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                return np.array(image.convert("L")) > 0
    except PIL.Image.DecompressionBombError as error:
        raise UserError(f"its mask is too large: {error}") from error
