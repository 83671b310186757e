import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, bounding_box
from sam4mllm.geometry.rle import MAX_PIXELS, Rle, intersection, union

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(bool, shape)] * 3)
)


@given(masks)
def test_a_mask_survives_encoding_and_decoding(mask):
    rle = Rle.from_mask(mask)
    assert np.array_equal(rle.mask, mask)
    assert Rle.from_json(rle.to_json()) == rle
    assert rle.area == np.count_nonzero(mask)
    assert rle.box == bounding_box(mask)


@given(pairs)
def test_intersection_and_union_equal_those_of_the_pixels(arrays):
    first, second, third = (Rle.from_mask(mask) for mask in arrays)
    height, width = first.size
    assert intersection(first, second) == np.count_nonzero(arrays[0] & arrays[1])
    assert intersection(first, second, third) == np.count_nonzero(arrays[0] & arrays[1] & arrays[2])
    assert union([first, second, third], height, width) == Rle.from_mask(arrays[0] | arrays[1] | arrays[2])


@given(masks, st.data())
def test_empty_runs_change_nothing(mask, data):
    height, width = mask.shape
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(runs)))
        runs[place:place] = [0, 0]
    assert Rle.from_runs(runs, height, width) == Rle.from_mask(mask)


def test_empty_runs_in_foreign_compressed_counts_are_joined():
    foreign = coco.frPyObjects({"size": [2, 2], "counts": [1, 0, 0, 2, 1]}, 2, 2)["counts"].decode()
    rle = Rle((2, 2), foreign)
    assert rle == Rle.from_runs([1, 2, 1], 2, 2)
    assert intersection(rle, Rle.from_runs([0, 4], 2, 2)) == 2


def test_a_large_mask_survives_encoding_and_decoding():
    rows, columns = np.ogrid[:900, :1300]
    mask = (rows - 400) ** 2 + (columns - 700) ** 2 < 350**2
    mask &= (rows // 7 + columns // 300) % 2 == 0
    assert np.array_equal(Rle((900, 1300), Rle.from_mask(mask).counts).mask, mask)


@settings(max_examples=400)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40), st.integers(1, 30), st.integers(1, 30))
def test_malformed_counts_are_an_error_and_never_a_crash(counts, height, width):
    try:
        rle = Rle((height, width), counts)
    except UserError:
        return
    assert rle.mask.sum() == rle.area == intersection(rle, rle)


# nothing, ends inside a number, unterminated, too long, too few pixels, too many, negative, not ASCII, a null byte
@pytest.mark.parametrize("counts", ["", "P", "o" * 40, "o" * 20 + "0", "8", "9" * 9, "O", "3é", "3\x00"], ids=ascii)
def test_invalid_counts_are_refused(counts):
    with pytest.raises(UserError, match="run-length counts"):
        Rle((3, 3), counts)


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (-3, -3), (MAX_PIXELS, 2)])
def test_invalid_sizes_are_refused(size):
    with pytest.raises(UserError, match="a mask must have 1 to"):
        Rle(size, "9")


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"size": [2, 2]}, {"size": [2], "counts": "4"}, {"size": ["2", 2], "counts": "4"}, {"counts": [4]}],
    ids=str,
)
def test_json_that_is_not_a_mask_is_refused(value):
    with pytest.raises(UserError, match="a mask must be"):
        Rle.from_json(value)


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        pytest.param([], Rle.empty(4, 6), id="no polygons"),
        pytest.param([[1, 1, 4, 1, 4, 3, 1, 3]], Box(1, 1, 4, 3), id="a rectangle"),
        pytest.param([[0, 0, 2, 0, 2, 2, 0, 2], [3.0, 1, 6, 1, 6, 4, 3, 4]], Box(0, 0, 6, 4), id="two parts"),
        pytest.param({"size": [4, 6], "counts": [5, 2, 17]}, Box(1, 1, 2, 3), id="a crowd"),
        pytest.param(Rle.from_runs([5, 2, 17], 4, 6).to_json(), Box(1, 1, 2, 3), id="a compressed crowd"),
    ],
)
def test_coco_segmentations_are_read(segmentation, expected):
    rle = Rle.from_coco(segmentation, 4, 6)
    assert rle == expected or rle.box == expected


def test_overlapping_polygons_give_their_union():
    square = [1, 1, 4, 1, 4, 3, 1, 3]
    assert Rle.from_coco([square, square], 4, 6) == Rle.from_coco([square], 4, 6)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        pytest.param([[1, 1, 2, 2]], "3 or more pairs", id="two corners"),
        pytest.param([[1, 1, 2, 2, 3, 3, 4]], "3 or more pairs", id="half a corner"),
        pytest.param([["a"] * 6], "finite coordinates", id="words"),
        pytest.param([[1, 1, 2, 2, 3, float("nan")]], "finite coordinates", id="nan"),
        pytest.param([[1, 1, 2, 2, 3, 1e9]], "far outside", id="far outside the image"),
        pytest.param([[1, 1, 2, 2, 3, 10**400]], "far outside", id="too large for a float"),
        pytest.param([1, 1, 2, 2, 3, 3], "3 or more pairs", id="not nested"),
        pytest.param({"size": [6, 4], "counts": [24]}, "same size", id="another size"),
        pytest.param({"size": [6, 4], "counts": "h0"}, "same size", id="another size, compressed"),
        pytest.param({"size": [4, 6], "counts": [5, -1, 20]}, "0 or more", id="a negative run"),
        pytest.param({"size": [4, 6], "counts": [5, 1.5, 17.5]}, "must be integers", id="half a pixel"),
        pytest.param({"size": [4, 6], "counts": [2**40]}, "sum to 24", id="too long a run"),
        pytest.param("24", "a mask must be", id="text"),
    ],
)
def test_invalid_coco_segmentations_are_refused(segmentation, message):
    with pytest.raises(UserError, match=message):
        Rle.from_coco(segmentation, 4, 6)


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(UserError, match="same size"):
        intersection(Rle.empty(2, 3), Rle.empty(3, 2))
    with pytest.raises(UserError, match="same size"):
        union([Rle.empty(2, 3)], 3, 2)


def test_the_union_of_no_masks_is_empty():
    assert union([], 3, 2).area == 0
    assert union([], 3, 2).box is None
