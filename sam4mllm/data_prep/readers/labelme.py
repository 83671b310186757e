"""Your own data, 2: folders of LabelMe's JSON files -> Sample shards; a label is a phrase.

    sam4mllm data labelme --root downloads --out data/labelme
    sam4mllm data labelme --root my_photos --out data/my_photos

    ROOT/labelme/a.json, a.jpg     one split, `--split` (train); all may lie in ROOT itself, no other JSON among them
    ROOT/labelme/val/b.json, ...   a first folder called train, val or test is a split, and no other one

One file, and a sample that it becomes; shapes with the same label are what its words mean, one mask for each group:

    {"version": "5.5.0", "imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null,
     "shapes": [{"label": "the red mug", "shape_type": "polygon", "group_id": null, "points": [[10.5, 20.0], ...]}]}

    Sample(id="labelme-train-a-0", image="a.jpg", phrase="the red mug", masks=(Rle(...),), source="labelme", ...)

Areas are painted as LabelMe paints them, borders too: polygon, rectangle, oriented_rectangle, circle, and mask (a PNG
in the file). Point, points, line and linestrip have no area: they are counted. Source: wkentaro/labelme (`shape.py`).
"""

from __future__ import annotations

import base64
import io
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Bool

from sam4mllm.data.samples import Sample
from sam4mllm.data_prep.formats.plain import as_text, as_whole, read_json
from sam4mllm.data_prep.formats.points import CUT, as_points, leave
from sam4mllm.data_prep.reading import Reading
from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import MAX_PIXELS, Rle

# how many points each shape has; None: three or more
AREAS = {"polygon": None, "rectangle": 2, "oriented_rectangle": 4, "circle": 2, "mask": 2}
FIELDS = frozenset({"imagePath", "imageHeight", "imageWidth", "shapes"})
SPLITS = ("train", "val", "test")
LEFT_OUT = "shapes without an area, left out"


def prepare(root: Path, split: str = "train") -> Reading:
    """All samples, by split, in the order of the files' names and of the shapes in them.

    Args:
        root: holds the folder labelme, or is it: the image root, with JSON files in folders of any depth.
        split: of the files that do not lie in a folder train, val or test.

    Raises:
        UserError: where there are none, and for files that are damaged or of another form.
    """
    home = root / "labelme" if (root / "labelme").is_dir() else root
    splits: dict[str, list[Sample]] = {}
    noticed: dict[str, list[str]] = {LEFT_OUT: [], CUT: [], "pictures of no object": []}
    for path in sorted(home.rglob("*.json")):
        own = _split(path, home) or split
        splits.setdefault(own, []).extend(_samples(path, home, own, noticed))
    if not splits:
        raise UserError(f"no LabelMe files in {home}: NAME.json beside each picture are due")
    return Reading("labelme", home, splits, noticed=noticed, alone=True)


def _split(path: Path, root: Path) -> str | None:
    first = path.relative_to(root).parts[0]
    return first if path.parent != root and first in SPLITS else None


def _samples(path: Path, root: Path, split: str, noticed: dict[str, list[str]]) -> Iterator[Sample]:
    name = path.relative_to(root).with_suffix("").as_posix()
    document = read_json(path)
    if not isinstance(document, dict) or not document.keys() >= FIELDS:
        raise UserError(
            f"{path} is none of LabelMe's files, which have {', '.join(sorted(FIELDS))}: move it, or give --root a "
            f"folder of LabelMe's alone"
        )
    try:
        size = as_whole(document["imageHeight"]), as_whole(document["imageWidth"])
        image = _image(as_text(document["imagePath"]), PurePosixPath(name).parent)
        meant = _meant(document["shapes"], size, f"{name}: ", noticed)
        if not meant:
            noticed["pictures of no object"].append(name)
        for number, (label, masks) in enumerate(meant.items()):
            yield Sample(
                id=f"labelme-{split}-{name}-{number}",
                image=image,
                width=size[1],
                height=size[0],
                phrase=label,
                masks=masks,
                source="labelme",
                split=split,
                raw=label,
            )
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is not as LabelMe has it: {reason}") from error


def _image(path: str, folder: PurePosixPath) -> str:
    """The picture's path below the root: LabelMe notes it as seen from the JSON file, on Windows with backslashes."""
    seen = PureWindowsPath(path)
    if seen.is_absolute() or seen.drive or seen.root:
        raise UserError(f"its imagePath {path!r} is absolute, and pictures lie below the root")
    return os.path.normpath(folder / seen.as_posix())


def _meant(shapes: Any, size: tuple[int, int], whose: str, noticed: dict[str, list[str]]) -> dict[str, tuple[Rle, ...]]:
    """The masks of each label: one for each group, and one for each shape that is in none."""
    parts: dict[str, dict[object, Bool[np.ndarray, "h w"]]] = {}
    for number, shape in enumerate(shapes):
        label, form = as_text(shape["label"]), as_text(shape.get("shape_type") or "polygon")
        if form not in AREAS:
            noticed[LEFT_OUT].append(f"{whose}{form} {label!r}")
            continue
        group = shape.get("group_id")
        groups = parts.setdefault(label, {})
        key = ("shape", number) if group is None else ("group", group)
        mask, cut = paint(shape, form, size)
        if cut:
            noticed[CUT].append(f"{whose}{form} {label!r}")
        groups[key] = groups[key] | mask if key in groups else mask
    return {label: tuple(map(Rle.from_mask, groups.values())) for label, groups in parts.items()}


def paint(shape: Any, form: str, size: tuple[int, int]) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """The pixels of one shape on a picture of ``size`` (height, width), and whether it leaves that and is cut.

    Raises:
        UserError: for points that are none, too many or too few, or a picture of no size.
    """
    height, width = size
    if min(size) < 1 or height * width > MAX_PIXELS:
        raise UserError(f"a picture has 1 to {MAX_PIXELS} pixels, got {width} x {height}")
    points = _points(shape["points"], form)
    if form == "mask":
        return _pasted(shape["mask"], points[0], size)
    canvas = PIL.Image.new("1", (width, height))
    draw = PIL.ImageDraw.Draw(canvas)
    match form:
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
    return np.array(canvas, dtype=bool), leave(xs, ys, *size)


def _points(points: Any, form: str) -> list[tuple[float, float]]:
    found, due = as_points(points), AREAS[form]
    if len(found) != due if due else len(found) < 3:
        raise UserError(f"a {form} has {due or '3 or more'} points, got {points!r:.60}")
    return found


def _pasted(packed: str, corner: tuple[float, float], size: tuple[int, int]) -> tuple[Bool[np.ndarray, "h w"], bool]:
    """A mask that the file holds as a PNG of its own box, by the box's upper left corner; and whether it is cut."""
    patch = PIL.Image.fromarray(_patch(base64.b64decode(packed)))
    whole = PIL.Image.new("1", size[::-1])
    x, y = round(corner[0]), round(corner[1])
    whole.paste(patch, (x, y))
    return np.array(whole, dtype=bool), leave((x, x + patch.width), (y, y + patch.height), *size)


def _patch(packed: bytes) -> Bool[np.ndarray, "h w"]:
    """The pixels of a PNG that are not black.

    Raises:
        UserError: for a claim of more pixels than Pillow opens.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # of half as many
            with PIL.Image.open(io.BytesIO(packed), formats=["PNG"]) as picture:
                return np.array(picture.convert("L")) > 0
    except PIL.Image.DecompressionBombError as error:
        raise UserError(f"its mask is too large: {error}") from error
