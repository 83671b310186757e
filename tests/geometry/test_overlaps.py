import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam4mllm.errors import UserError
from sam4mllm.geometry.overlaps import shared
from sam4mllm.geometry.rle import Rle, exclusive_union, union

pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(bool, shape)] * 2)
)


@given(st.lists(pairs, max_size=8))
def test_intersections_and_areas_equal_those_of_the_pixels(mask_pairs):
    """The pairs of one call may have different sizes, and masks may be empty or full."""
    texts = [[Rle.from_mask(mask).counts for mask in side] for side in zip(*mask_pairs, strict=True)] or [[], []]
    intersections, first_areas, second_areas = shared(*texts, [first.size for first, _ in mask_pairs])
    assert intersections.tolist() == [int((first & second).sum()) for first, second in mask_pairs]
    assert first_areas.tolist() == [int(first.sum()) for first, _ in mask_pairs]
    assert second_areas.tolist() == [int(second.sum()) for _, second in mask_pairs]


def test_large_masks_do_not_overflow():
    """Together they have more pixels than 32 bits can count."""
    pixels = 2**28
    full = Rle.from_runs([0, pixels], 2**14, 2**14).counts
    half = Rle.from_runs([pixels // 2, pixels // 2], 2**14, 2**14).counts
    intersections, first_areas, second_areas = shared([full] * 20, [half] * 20, [pixels] * 20)
    assert intersections.tolist() == second_areas.tolist() == [pixels // 2] * 20
    assert first_areas.tolist() == [pixels] * 20


@pytest.mark.parametrize(("first", "second"), [(["4"], ["5"]), (["5"], ["4"])])
def test_counts_that_do_not_fill_their_mask_are_refused(first, second):
    with pytest.raises(UserError, match="do not fill"):
        shared(first, second, [4])


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[hnp.arrays(bool, (5, 6))] * n)))
def test_covered_once_equals_the_pixels_of_exactly_one_mask(arrays):
    rles = [Rle.from_mask(mask) for mask in arrays]
    once = exclusive_union(rles, 5, 6)
    assert np.array_equal(once.mask, np.sum(arrays, axis=0) == 1)
    assert once.area <= union(rles, 5, 6).area


def test_nothing_is_covered_by_no_masks():
    assert exclusive_union([], 3, 2) == Rle.empty(3, 2)
