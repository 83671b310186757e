import base64
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sam4mllm.data.samples import read_samples
from sam4mllm.data_prep.formats.points import CUT
from sam4mllm.data_prep.readers.labelme import LEFT_OUT, paint_shape, prepare
from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box
from tests.data_prep import raw
from tests.data_prep.errors import one_line_error
from tests.running import invoke


def png(patch) -> str:
    packed = io.BytesIO()
    PIL.Image.fromarray(np.array(patch, dtype=np.uint8)).save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()


def claiming(side: int) -> str:
    """A PNG that claims to be larger than it is."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(99)),
        b"IEND": b"",
    }
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items())
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def shape(label: str, x: int, **change) -> dict:
    return {"label": label, "shape_type": "rectangle", "group_id": None, "points": [[x, 1], [x + 1, 2]], **change}


def write(root: Path, shapes, name: str = "a", **change) -> Path:
    document = {
        "version": "5.5.0",
        "imagePath": f"{Path(name).name}.jpg",
        "imageHeight": 6,
        "imageWidth": 9,
        "imageData": None,
        "shapes": shapes,
        **change,
    }
    return raw.write_files(root, {f"{name}.json": document})


SQUARE = [(row, column) for row in (1, 2, 3) for column in (2, 3, 4)]


@pytest.mark.parametrize(
    ("form", "points", "pixels"),
    [
        pytest.param("rectangle", [[2, 1], [4, 3]], SQUARE, id="rectangle"),
        pytest.param("rectangle", [[4, 3], [2, 1]], SQUARE, id="rectangle from its other corner"),
        pytest.param("polygon", [[2, 1], [4, 1], [4, 3], [2, 3]], SQUARE, id="polygon, its border too"),
        pytest.param("oriented_rectangle", [[2, 1], [4, 1], [4, 3], [2, 3]], SQUARE, id="oriented rectangle"),
        pytest.param("circle", [[3, 2], [3, 2]], [], id="a circle of no radius"),
        pytest.param("circle", [[3, 2], [4, 2]], [(1, 3), (2, 2), (2, 3), (2, 4), (3, 3)], id="a circle"),
        pytest.param("rectangle", [[20, 20], [22, 22]], [], id="outside the image"),
    ],
)
def test_areas_are_painted_as_in_labelme(form, points, pixels):
    painted, _ = paint_shape({"points": points}, form, (6, 9))
    pixels_of_mask = {(int(row), int(column)) for row, column in np.argwhere(painted)}
    assert set(pixels) <= pixels_of_mask
    assert pixels_of_mask <= set(pixels) | ({(1, 2), (1, 4), (3, 2), (3, 4)} if form == "circle" else set())


@pytest.mark.parametrize(
    ("corner", "pixels"),
    [
        ([2, 1], [(1, 2), (2, 3)]),
        ([1.6, 1.4], [(1, 2), (2, 3)]),
        ([-1, -1], [(0, 0)]),
        ([8, 5], [(5, 8)]),
        ([40, 40], []),
    ],
)
def test_a_mask_is_placed_by_its_corner_and_cut_at_the_edge(corner, pixels):
    mask = {"points": [corner, [corner[0] + 1, corner[1] + 1]], "mask": png([[1, 0], [0, 255]])}
    painted, _ = paint_shape(mask, "mask", (6, 9))
    assert np.argwhere(painted).tolist() == [list(pixel) for pixel in pixels]


@pytest.mark.parametrize(
    ("form", "points", "cut"),
    [
        pytest.param("polygon", [[-1, -1], [10, -1], [10, 7]], False, id="a pixel off"),
        pytest.param("polygon", [[1, 1], [10.5, 1], [3, 3]], True, id="more than a pixel off"),
        pytest.param("rectangle", [[4, 3], [2, 8]], True, id="below"),
        pytest.param("rectangle", [[400, 300], [402, 301]], True, id="far off"),
        pytest.param("oriented_rectangle", [[-2, 1], [4, 1], [4, 3], [-2, 3]], True, id="left of it"),
        pytest.param("circle", [[4, 3], [4, 0]], False, id="a circle inside"),
        pytest.param("circle", [[4, 3], [8, 6]], True, id="a circle of which the two points are inside"),
        pytest.param("mask", [[8, 5], [9, 6]], False, id="a mask, a pixel off"),
        pytest.param("mask", [[9, 1], [9, 1]], True, id="a mask larger than its points"),
    ],
)
def test_shapes_that_leave_the_image_are_cut_and_counted(tmp_path, form, points, cut):
    mask = {"mask": png([[1, 0], [0, 255]])} if form == "mask" else {}
    dataset = prepare(write(tmp_path, [shape("mug", 0, shape_type=form, points=points, **mask)]))
    assert dataset.noticed[CUT] == ([f"a: {form} 'mug'"] if cut else [])
    assert len(dataset.splits["train"]) == 1


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        pytest.param([shape("mug", 0), shape("cup", 3)], {"mug": [(0, 2)], "cup": [(3, 5)]}, id="two labels"),
        pytest.param([shape("mug", 0), shape("mug", 3)], {"mug": [(0, 2), (3, 5)]}, id="two objects of one label"),
        pytest.param(
            [shape("mug", 0, group_id=1), shape("mug", 3, group_id=1), shape("mug", 6, group_id=2)],
            {"mug": [(0, 5), (6, 8)]},
            id="parts of one object are a group",
        ),
    ],
)
def test_a_label_means_its_shapes(tmp_path, shapes, expected):
    samples = prepare(write(tmp_path, shapes)).splits["train"]
    boxes = {sample.phrase: [mask.box for mask in sample.masks] for sample in samples}
    assert boxes == {label: [Box(x0, 1, x1, 3) for x0, x1 in places] for label, places in expected.items()}
    assert samples[0].id == "labelme-train-a-0"


def test_shapes_without_an_area_are_counted(tmp_path):
    forms = ["point", "points", "line", "linestrip", "spline"]
    shapes = [shape("mug", 0, shape_type=form) for form in forms]
    write(tmp_path, [*shapes, shape("cup", 3)])
    write(tmp_path, shapes[:1], "b")
    dataset = prepare(tmp_path)
    assert [sample.phrase for sample in dataset.splits["train"]] == ["cup"]
    assert dataset.noticed == {
        LEFT_OUT: [*(f"a: {form} 'mug'" for form in forms), "b: point 'mug'"],
        CUT: [],
        "images without an object": ["b"],
    }


def test_only_top_level_folders_train_val_and_test_are_splits(tmp_path):
    others = ["a", "kitchen/d", "valley/e", "devices/f", "trainers/g", "testA/h", "kitchen/val/i", "Val/j"]
    for name in ("val/b", "train/deep/c", "test/k", *others):
        write(tmp_path, [shape("mug", 0)], name)
    splits = prepare(tmp_path, split="mine").splits
    assert {split: sorted(sample.image for sample in rows) for split, rows in splits.items()} == {
        "mine": sorted(f"{name}.jpg" for name in others),
        "test": ["test/k.jpg"],
        "train": ["train/deep/c.jpg"],
        "val": ["val/b.jpg"],
    }


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("a.jpg", "json/a.jpg"),
        ("../images/a.jpg", "images/a.jpg"),
        ("..\\images\\a.jpg", "images/a.jpg"),
        ("../../a.jpg", None),
        ("/etc/passwd", None),
        ("C:\\a.jpg", None),
        ("\\\\host\\share\\a.jpg", None),
    ],
)
def test_an_image_path_is_relative_to_its_file_and_inside_the_root(tmp_path, path, image):
    write(tmp_path, [shape("mug", 0)], "json/a", imagePath=path)
    if image:
        assert prepare(tmp_path).splits["train"][0].image == image
    else:
        with one_line_error(r"a\.json: .*below the"):
            prepare(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "change", "message"),
    [
        pytest.param([{"label": "mug"}], {}, "missing or unknown: 'points'", id="no points"),
        pytest.param([shape("mug", 0, shape_type=None)], {}, "a polygon has 3 or more points", id="no kind"),
        pytest.param([shape("mug", 0, points=[[1, 2]])], {}, "a rectangle has 2 points", id="one corner"),
        pytest.param([shape("mug", 0, points=[["1", 2], [1, 2]])], {}, "a list of points x, y", id="a word as a place"),
        pytest.param([shape("mug", 0, points=[[True, 2], [1, 2]])], {}, "a list of points x, y", id="a yes"),
        pytest.param([shape("mug", 0, points=[[10**400, 2], [1, 2]])], {}, "1,329 bits", id="a number of 400 digits"),
        pytest.param([shape("mug", 0, points=[[1, 2], [1e9, 2]])], {}, "within 32768 pixels", id="far off"),
        pytest.param([shape(5, 0)], {}, "expected text, got 5", id="a number as a label"),
        pytest.param([shape("mug", 0)], {"imageHeight": 0}, "an image must have 1 to", id="an image of no size"),
        pytest.param([shape("mug", 0)], {"imageHeight": 10**9}, "an image must have 1 to", id="an image of all sizes"),
        pytest.param([shape("mug", 0)], {"imageHeight": None}, "TypeError", id="no size"),
        pytest.param([shape("m", 0, shape_type="mask", mask="%%")], {}, "cannot identify", id="a mask that is none"),
        pytest.param(
            [shape("m", 0, shape_type="mask", mask=claiming(20000))], {}, "its mask is too large", id="a huge mask"
        ),
        pytest.param([shape("m", 0, shape_type="mask", mask=claiming(12000))], {}, "OSError", id="a large mask, cut"),
    ],
)
def test_files_of_another_form_are_one_line_that_names_them(tmp_path, shapes, change, message):
    with one_line_error(message) as caught:
        prepare(write(tmp_path, shapes, **change))
    assert re.search(r"a\.json(: | is not in the format of LabelMe)", str(caught.value))


@pytest.mark.parametrize(
    "text", ["[]", "5", '{"images": [], "annotations": []}', '{"imagePath": "a.jpg", "imageHeight": 6, "shapes": []}']
)
def test_a_json_file_of_another_format_is_refused_by_name(tmp_path, text):
    write(tmp_path, [shape("mug", 0)])
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UserError) as caught:
        prepare(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/other.json is not a LabelMe file, which has imageHeight, imagePath, imageWidth, shapes: "
        "move it, or give --root a folder with LabelMe files only"
    )


def test_a_folder_labelme_below_the_root_is_the_image_root(tmp_path):
    write(tmp_path / "labelme", [shape("mug", 0)], "val/a")
    (tmp_path / "instances.json").write_text("{}")
    dataset = prepare(tmp_path)
    assert dataset.images == tmp_path / "labelme"
    assert {split: [sample.image for sample in rows] for split, rows in dataset.splits.items()} == {
        "val": ["val/a.jpg"]
    }


def test_the_command_writes_a_folder_for_each_split(tmp_path):
    write(tmp_path / "raw", [shape("mug", 0)], "train/a")
    write(tmp_path / "raw", [shape("mug", 0)], "val/a")
    result = invoke("data", "labelme", "--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "missing images: 2 (train/a.jpg, val/a.jpg)" in result.output
    assert [len(read_samples(tmp_path / "out" / split)) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("out", ["raw", "raw/out", "raw/../raw/out", "link/out"])
def test_the_output_cannot_be_inside_the_raw_files(tmp_path, out):
    write(tmp_path / "raw", [shape("mug", 0)])
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    result = invoke("data", "labelme", "--root", str(tmp_path / "raw"), "--out", str(tmp_path / out))
    assert result.exit_code == 2
    assert "where all JSON is read as labelme: choose another folder" in result.stderr
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a.json"]


def test_a_folder_without_files_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no LabelMe files in"):
        prepare(tmp_path)
