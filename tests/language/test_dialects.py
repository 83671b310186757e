"""Round-trip laws that hold for every dialect, then messy replies."""

import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Frame, Point
from sam4mllm.language.dialects import DIALECTS, dialect, dialect_for
from sam4mllm.language.notation import Place
from tests.paths import ROOT

NAMES = sorted(DIALECTS)
SIZES = ((16, 16), (17, 31), (640, 480), (481, 640), (8000, 300), (300, 8000))


def to_multiples_of_28(width: int, height: int) -> Frame:
    return Frame.resized(width, height, (max(round(width / 28), 1) * 28.0, max(round(height / 28), 1) * 28.0))


KINDS = {"whole": Frame.unscaled, "padded": Frame.padded, "resized": to_multiples_of_28}
FRAMES = [kind(*size) for kind in KINDS.values() for size in SIZES]

share = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, 0.9986, 0.9987, 0.9995, 1e-9]))
side = st.integers(16, 8000)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    return KINDS[draw(st.sampled_from(sorted(KINDS)))](draw(side), draw(side))


def is_legal(value: Box | Point, frame: Frame) -> bool:
    """Whether a box has an area and is inside the image, or a point is in one of its pixels."""
    width, height = frame.image
    if isinstance(value, Box):
        return 0 <= value.x0 < value.x1 <= width and 0 <= value.y0 < value.y1 <= height and value.area > 0
    return 0 <= value.x < width and 0 <= value.y < height


def parse(name: str, text: str, frame: Frame) -> list[Box | Point]:
    return [place.value for place in dialect(name).places(text, frame)]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(frame=frames(), shares=st.tuples(share, share, share, share), label=st.sampled_from(["", "a cat", "[1,2] {3}"]))
def test_a_written_box_is_parsed_within_one_cell(name, frame, shares, label):
    width, height = frame.image
    (x0, x1), (y0, y1) = sorted(s * width for s in shares[:2]), sorted(s * height for s in shares[2:])
    row, box = dialect(name), Box(x0, y0, x1, y1)
    (place,) = row.places(row.write_box(box, frame, label), frame)
    assert isinstance(place.value, Box)
    assert is_legal(place.value, frame)
    cell = row.cell(frame)
    errors = [abs(a - b) for a, b in zip(place.value.xyxy, box.xyxy, strict=True)]
    assert max(errors[0], errors[2]) <= cell[0] * (1 + 1e-6)
    assert max(errors[1], errors[3]) <= cell[1] * (1 + 1e-6)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(frame=frames(), shares=st.tuples(share, share))
def test_a_written_point_is_parsed_within_one_cell(name, frame, shares):
    row, point = dialect(name), Point(shares[0] * frame.image[0], shares[1] * frame.image[1])
    (place,) = row.places(row.write_point(point, frame), frame)
    assert isinstance(place.value, Point)
    assert is_legal(place.value, frame)
    cell = row.cell(frame)
    assert abs(place.value.x - point.x) <= cell[0] * (1 + 1e-6)
    assert abs(place.value.y - point.y) <= cell[1] * (1 + 1e-6)


@pytest.mark.parametrize("pixel", [0, 1, 55, 110, 111])
def test_the_tiny_dialect_preserves_pixel_centres(pixel):
    """When points were rounded to pixel edges, one in eleven crossed an outline: shapes are a few pixels wide there."""
    row, frame = dialect("tiny"), Frame.unscaled(112, 112)
    [place] = row.places(row.write_point(Point(pixel + 0.5, pixel + 0.5), frame), frame)
    assert (place.value.x, place.value.y) == (pixel + 0.5, pixel + 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_boxes_and_points_in_one_text_keep_their_order_and_type(name):
    row, rng = dialect(name), np.random.default_rng(5)
    for frame in FRAMES:
        values: list[Box | Point] = []
        for is_box in rng.random(12) < 0.5:
            (x0, y0), (x1, y1) = (np.sort(rng.random((2, 2)), axis=0) * frame.image).tolist()
            values.append(Box(x0, y0, x1, y1) if is_box else Point(x0, y0))
        written = [row.write_box(v, frame, "it") if isinstance(v, Box) else row.write_point(v, frame) for v in values]
        text = " and ".join(written)
        places = row.places(text, frame)
        assert [type(place.value) for place in places] == [type(value) for value in values]
        assert all(a.end <= b.start for a, b in pairwise(places))
        separate = [row.places(text, frame)[0].value for text in written]
        assert [place.value for place in places] == separate


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(frame=frames(), numbers=st.lists(st.integers(-3000, 3000) | st.floats(-2, 2), min_size=4, max_size=4))
def test_any_four_numbers_are_a_box_with_an_area_inside_the_image(name, frame, numbers):
    text = "[" + ", ".join(f"{number:.4f}" if isinstance(number, float) else str(number) for number in numbers) + "]"
    (value,) = parse(name, text, frame)
    assert isinstance(value, Box)
    assert is_legal(value, frame)


WRITTEN = {
    "sam4mllm": ("[100,050,500,750]", "(300,400)"),
    "qwen2-vl": ("<|box_start|>(100,50),(500,750)<|box_end|>", "<|box_start|>(300,400)<|box_end|>"),
    "qwen2.5-vl": ('{"bbox_2d":[64,24,320,360],"label":"cat"}', '{"point_2d":[192,192]}'),
    "qwen3-vl": ('{"bbox_2d":[100,50,500,750],"label":"cat"}', '{"point_2d":[300,400]}'),
    "llava": ("[0.10,0.05,0.50,0.75]", "[0.30,0.40]"),
    "internvl": ("<ref>cat</ref><box>[[100,50,500,750]]</box>", "<box>[[300,400]]</box>"),
    "paligemma": ("<loc0051><loc0102><loc0768><loc0512> cat", "<loc0410><loc0307>"),
    "florence-2": ("cat<loc_100><loc_50><loc_500><loc_750>", "<loc_300><loc_400>"),
    "kosmos-2": (
        "<phrase>cat</phrase><object><patch_index_0035><patch_index_0784></object>",
        "<object><patch_index_0393></object>",
    ),
    "molmo2": ("[100,050,500,750]", '<points coords="1 1 300 400"></points>'),
    "gemma": ('{"box_2d":[50,100,750,500],"label":"cat"}', '{"point":[400,300]}'),
    "glm-4v": ("<|begin_of_box|>[[100,50,500,750]]<|end_of_box|>", "<|begin_of_box|>[[300,400]]<|end_of_box|>"),
    "tiny": ("<box><p011><p006><p056><p084>", "<p033><p044>"),
}
BOX, POINT, VGA = Box(64, 24, 320, 360), Point(192, 192), Frame.unscaled(640, 480)


@pytest.mark.parametrize("name", NAMES)
def test_each_dialect_writes_the_text_that_the_docs_show(name):
    written = dialect(name).write_box(BOX, VGA, "cat"), dialect(name).write_point(POINT, VGA)
    assert written == WRITTEN[name]
    docs = (ROOT / "docs" / "dialects.md").read_text(encoding="utf-8")
    line = next(line for line in docs.splitlines() if line.startswith(f"| `{name}` |"))
    assert all(f"`{form}`" in line.replace(r"\|", "|") for form in written)


def test_a_box_on_the_padding_of_a_square_is_a_box_of_the_image():
    frame = Frame.padded(640, 480)
    assert dialect("llava").write_box(Box(0, 0, 640, 480), frame) == "[0.00,0.12,1.00,0.88]"
    assert parse("llava", "[0.00,0.125,1.00,0.875]", frame) == [Box(0, 0, 640, 480)]


def test_only_pixel_dialects_depend_on_the_canvas():
    assert [name for name in NAMES if dialect(name).pixels] == ["qwen2.5-vl"]
    small, large = (Frame.resized(640, 480, to) for to in ((320.0, 240.0), (1280.0, 960.0)))
    for name in NAMES:
        same = dialect(name).write_box(BOX, small) == dialect(name).write_box(BOX, large)
        assert same is not dialect(name).pixels


CAT = Box(100, 50, 500, 750)  # in an image of 1000 x 1000 pixels
MESSY = [
    ("sam4mllm", "fence", "```\n[100,050,500,750]\n```", [CAT]),
    ("sam4mllm", "prose", "Sure! The cat is at [100, 50, 500, 750], on the left (I think).", [CAT]),
    ("sam4mllm", "two objects", "[100,050,500,750]\n[000,000,010,010]", [CAT, Box(0, 0, 10, 10)]),
    ("sam4mllm", "list of lists", "[[100,50,500,750],[0,0,10,10]]", [CAT, Box(0, 0, 10, 10)]),
    ("sam4mllm", "truncated", "[100,050,500,7", []),
    ("sam4mllm", "three numbers", "[100,050,500]", []),
    ("sam4mllm", "five numbers", "[100,050,500,750,3]", []),
    ("sam4mllm", "swapped", "[500,750,100,050]", [CAT]),
    ("sam4mllm", "out of range", "[-20,050,5000,750]", [Box(0, 50, 1000, 750)]),
    ("sam4mllm", "wholly outside", "[2000,050,3000,750]", [Box(999, 50, 1000, 750)]),
    ("sam4mllm", "a line", "[500,050,500,750]", [Box(499.5, 50, 500.5, 750)]),
    ("sam4mllm", "a dot in the corner", "[000,000,000,000]", [Box(0, 0, 1, 1)]),
    ("sam4mllm", "the last cell", "[999,999,999,999]", [Box(999, 999, 1000, 1000)]),
    ("sam4mllm", "decimals", "[100.0, 50.0, 500.0, 750.0]", [CAT]),
    ("sam4mllm", "bare", "100, 50, 500, 750", [CAT]),
    ("sam4mllm", "bare in prose", "It is at 100 50 500 750.", [CAT]),
    ("sam4mllm", "a numbered list", "1. 100, 50, 500, 750", [CAT]),
    ("sam4mllm", "wide characters", "【100，50，500，750】", [CAT]),
    ("sam4mllm", "huge", f"[{'9' * 400},50,100,750]", [Box(100, 50, 1000, 750)]),
    ("sam4mllm", "not numbers", "[nan,inf,1e3,0x10]", []),
    ("sam4mllm", "other digits", "[١٠٠,٠٥٠,٥٠٠,٧٥٠]", []),
    ("sam4mllm", "json", '{"bbox_2d": [100, 50, 500, 750], "point_2d": [300, 400]}', [CAT, Point(300, 400)]),
    ("sam4mllm", "a point outside", "(1200,-5)", [Point(np.nextafter(1000, 0), 0)]),
    ("qwen2-vl", "tags dropped", "(100,50),(500,750)", [CAT]),
    ("qwen2-vl", "spaces", "<|box_start|> (100, 50), (500, 750) <|box_end|>", [CAT]),
    ("qwen2-vl", "half a box", "<|box_start|>(100,50),(500,7", []),
    ("qwen2-vl", "two points", "(100,50) (500,750)", [Point(100, 50), Point(500, 750)]),
    ("qwen2-vl", "brackets", "[100, 50, 500, 750]", [CAT]),
    ("qwen2.5-vl", "fence", '```json\n[\n\t{"bbox_2d": [100, 50, 500, 750], "label": "cat"}\n]\n```', [CAT]),
    ("qwen2.5-vl", "label first", "[{'label': 'cat', 'bbox_2d': [100, 50, 500, 750]}]", [CAT]),
    ("qwen2.5-vl", "one number a line", '{"bbox_2d": [\n100,\n50,\n500,\n750\n]}', [CAT]),
    ("qwen2.5-vl", "truncated", '```json\n[{"bbox_2d": [100, 50, 500', []),
    ("qwen2.5-vl", "cut in the second", '[{"bbox_2d": [100, 50, 500, 750]}, {"bbox_2d": [1, 2', [CAT]),
    ("qwen3-vl", "another key", '{"box": [100, 50, 500, 750]}', [CAT]),
    ("qwen3-vl", "a point's label", '{"point_2d": [300, 400], "label": "nose"}', [Point(300, 400)]),
    ("llava", "three decimals", "[0.100, 0.050, 0.500, 0.750]", [CAT]),
    ("llava", "no zero", "[.1, .05, .5, .75]", [CAT]),
    ("llava", "swapped", "The cat is at [0.5, 0.75, 0.1, 0.05].", [CAT]),
    ("llava", "truncated", "[0.10,0.05,0.50,0.7", []),
    ("internvl", "tags dropped", "cat[[100, 50, 500, 750]]", [CAT]),
    ("internvl", "several in one", "<box>[[100,50,500,750],[0,0,10,10]]</box>", [CAT, Box(0, 0, 10, 10)]),
    ("internvl", "closing tag cut", "<ref>cat</ref><box>[[100, 50, 500, 750]]</b", [CAT]),
    ("paligemma", "several", "<loc0000><loc0256><loc0512><loc0768> cat ; <loc0000><loc0000><loc0512><loc0512> dog",
     [Box(250, 0, 750, 500), Box(0, 0, 500, 500)]),
    ("paligemma", "three tokens", "<loc0000><loc0256><loc0512>", []),
    ("paligemma", "no zeros", "<loc0><loc256><loc512><loc768>", []),
    ("paligemma", "beyond", "<loc0000><loc0256><loc0512><loc9999>", [Box(250, 0, 1000, 500)]),
    ("paligemma", "brackets", "[0, 256, 512, 768]", [Box(250, 0, 750, 500)]),
    ("florence-2", "task token", "<s>cat<loc_100><loc_50><loc_500><loc_750></s>", [Box(100.5, 50.5, 500.5, 750.5)]),
    ("florence-2", "no area", "<loc_100><loc_50><loc_100><loc_750>", [Box(100, 50.5, 101, 750.5)]),
    ("florence-2", "three tokens", "<loc_100><loc_50><loc_500>", []),
    ("kosmos-2", "delimited", "<object><patch_index_0000><patch_index_0528></delimiter_of_multi_objects/>"
     "<patch_index_0000><patch_index_0033></object>",
     [Box(15.625, 15.625, 515.625, 515.625), Box(15.625, 15.625, 46.875, 46.875)]),
    ("kosmos-2", "one patch twice", "<object><patch_index_0000><patch_index_0000></object>", [Box(0, 0, 31.25, 31.25)]),
    ("kosmos-2", "half", "<object><patch_index_0000>", []),
    ("kosmos-2", "beyond", "<object><patch_index_0000><patch_index_9999></object>",
     [Box(15.625, 15.625, 984.375, 984.375)]),
    ("molmo2", "several in one", 'The <points coords="1 1 073 160 2 173 600" alt="boats">boats</points>.',
     [Point(73, 160), Point(173, 600)]),
    ("molmo2", "boxes of a descendant", '<boxes coords="1 1 100 050 500 750">cat</boxes>', [CAT]),
    ("molmo2", "truncated", '<points coords="1 1 073 160 2 17', [Point(73, 160)]),
    ("molmo2", "the edge", '<points coords="1 1 1000 000">x</points>', [Point(np.nextafter(1000, 0), 0)]),
    ("gemma", "fence", '```json\n[{"box_2d": [50, 100, 750, 500], "label": "cat"}]\n```', [CAT]),
    ("gemma", "point", '[{"point": [400, 300], "label": "cat"}]', [Point(300, 400)]),
    ("gemma", "bare", "50, 100, 750, 500", [CAT]),
    ("glm-4v", "prose", "The cat is at <|begin_of_box|>[[100,50,500,750]]<|end_of_box|>.", [CAT]),
    ("glm-4v", "tags dropped", "The cat is at [[100, 50, 500, 750]].", [CAT]),
    ("tiny", "several", "<box><p000><p056><p112><p112>\n<box><p000><p000><p056><p028>",
     [Box(0, 500, 1000, 1000), Box(0, 0, 500, 250)]),
    ("tiny", "three tokens", "<box><p000><p056><p112>", []),
    ("glm-4v", "json", '<|begin_of_box|>{"bbox_2d": [100,50,500,750]}<|end_of_box|>', [CAT]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "values"), [pytest.param(n, t, v, id=f"{n}-{i}") for n, i, t, v in MESSY])
def test_boxes_and_points_are_parsed_from_a_messy_reply(name, text, values):
    parsed = parse(name, text, Frame.unscaled(1000, 1000))
    assert [type(value) for value in parsed] == [type(value) for value in values]
    for actual, expected in zip(parsed, values, strict=True):
        numbers = [(v.xyxy if isinstance(v, Box) else (v.x, v.y)) for v in (actual, expected)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-6)


def test_every_dialect_has_messy_replies():
    assert {name for name, *_ in MESSY} == set(NAMES)


def test_a_place_has_its_position_in_the_text():
    text = "at [100,050,500,750] and (300,400)."
    places = dialect("sam4mllm").places(text, Frame.unscaled(1000, 1000))
    assert places == [Place(3, 20, CAT), Place(25, 34, Point(300, 400))]
    assert [text[place.start : place.end] for place in places] == ["[100,050,500,750]", "(300,400)"]


def test_an_image_may_be_one_pixel():
    frame = Frame.unscaled(1, 1)
    for name in NAMES:
        row = dialect(name)
        for text in (row.write_box(Box(0, 0, 1, 1), frame), "[0,0,0,0]", "[9,9,9,9]"):
            assert all(is_legal(value, frame) for value in parse(name, text, frame))


ENDLESS = (
    *("[[[[", "1,", "[1,", "1", " ", "1 ", "1.", "-", ">[1,2", "(1,2),", "[1" + " " * 50, "[1" + " " * 49_000),
    *("[" + "9" * 5000 + ",", "<loc0001>", "<patch_index_0001>", "<|box_start|>(", '{"bbox_2d":[', 'coords="1 1 '),
    "1 073 160 ",
)


@pytest.mark.parametrize("piece", ENDLESS, ids=range(len(ENDLESS)))
def test_no_text_takes_long_to_parse(piece):
    text = piece * (50_000 // len(piece))
    start = time.process_time()
    for name in NAMES:
        dialect(name).places(text, VGA)
    assert time.process_time() - start < 30  # at most 4 s with type checks; a search that backtracks takes minutes


MODEL_TYPES = {
    **{"qwen2_vl": "qwen2-vl", "qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl", "qwen3_5": "qwen3-vl"},
    **{"llava": "llava", "llava_next": "llava", "llava_onevision": "llava", "internvl": "internvl"},
    **{"paligemma": "paligemma", "florence2": "florence-2", "kosmos-2": "kosmos-2", "molmo2": "molmo2"},
    **{"gemma3": "gemma", "glm4v": "glm-4v", "smolvlm": "sam4mllm", "idefics3": "sam4mllm"},
    "a model of tomorrow": "sam4mllm",
}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_model_type_selects_the_dialect(model_type):
    assert dialect_for(model_type) is dialect(MODEL_TYPES[model_type])


def test_every_model_type_in_the_table_exists_in_transformers():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_types = [model_type for row in DIALECTS.values() for model_type in row.model_types]
    assert len(model_types) == len(set(model_types))
    assert set(model_types) <= set(CONFIG_MAPPING_NAMES)


def test_an_unknown_dialect_lists_the_choices():
    with pytest.raises(UserError, match=r"unknown dialect 'qwen': choose from sam4mllm, qwen2-vl, .*glm-4v"):
        dialect("qwen")


def test_bins_equal_those_of_the_official_processor():
    import torch
    from transformers.models.florence2.processing_florence2 import Florence2PostProcessor as Official

    rng, bins = np.random.default_rng(0), SimpleNamespace(quantize_bins=(1000, 1000))
    for x0, y0, x1, y1 in (rng.random((50, 4)) * 0.4 + [0, 0, 0.5, 0.5]) * [640, 480, 640, 480]:
        indices = Official.quantize(bins, torch.tensor([[x0, y0, x1, y1]]), (640, 480))
        text = dialect("florence-2").write_box(Box(float(x0), float(y0), float(x1), float(y1)), VGA)
        assert text == "".join(f"<loc_{index}>" for index in indices[0].tolist())
        (value,) = parse("florence-2", text, VGA)
        assert isinstance(value, Box)
        official = Official.dequantize(bins, indices, (640, 480))[0].tolist()
        assert all(
            -1e-3 <= edge - integer < 1 + 1e-3 for edge, integer in zip(value.xyxy, official, strict=True)
        )  # official edges are ints


def test_patches_equal_those_of_the_official_processor():
    from transformers.models.kosmos2.processing_kosmos2 import coordinate_to_patch_index, patch_index_to_coordinate

    rng, frame = np.random.default_rng(0), Frame.unscaled(1, 1)
    for x0, y0, x1, y1 in np.sort(rng.random((200, 2, 2)), axis=1).reshape(200, 4).tolist():
        upper, lower = coordinate_to_patch_index((x0, y0, x1, y1), 32)
        text = dialect("kosmos-2").write_box(Box(x0, y0, x1, y1), frame)
        assert text == f"<object><patch_index_{upper:04d}><patch_index_{lower:04d}></object>"
        (value,) = parse("kosmos-2", text, frame)
        assert isinstance(value, Box)
        official = patch_index_to_coordinate(upper, lower, 32)
        half = 0.5 / 32  # the official parser treats edges as centres on both axes if the patches share a row or column
        assert value.xyxy == pytest.approx(official, abs=half + 1e-9)
