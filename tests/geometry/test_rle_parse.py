import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam4mllm.errors import UserError
from sam4mllm.geometry.rle import Rle
from sam4mllm.geometry.rle_parse import parse

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def runs_of(mask):
    """The runs by their definition, first off."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


@given(st.lists(masks, min_size=1, max_size=6))
def test_many_masks_are_parsed_as_they_were_written(some):
    found = parse([Rle.from_mask(mask).counts for mask in some], [mask.size for mask in some])
    parts = np.split(found.flat, found.ends[:-1])
    assert [part.tolist() for part in parts] == [runs_of(mask) for mask in some]
    assert found.loose.size == 0


@given(st.lists(masks, min_size=2, max_size=6), st.data())
def test_many_rles_are_those_made_one_by_one(some, data):
    given = [(mask.shape, Rle.from_mask(mask).counts) for mask in some]
    assert Rle.many(given) == [Rle(*each) for each in given]
    place = data.draw(st.integers(0, len(given) - 1))
    given[place] = (given[place][0], data.draw(st.sampled_from(["", "P", "9999999", "é", "O"])))
    with pytest.raises(UserError, match="counts"):
        Rle.many(given)


def test_the_first_wrong_counts_are_the_ones_that_are_shown():
    with pytest.raises(UserError, match="'8' do not fill a mask of 9"):
        parse(["9", "8", "7"], [9, 9, 9])


@pytest.mark.parametrize("letter", ["é", "\udcff", "\x00", "/", "p"])
def test_a_letter_that_no_counts_have_is_refused_and_not_replaced(letter):
    """A mask of 15 pixels, were the letter read as a question mark."""
    assert parse(["?"], [15]).flat.tolist() == [15]
    with pytest.raises(UserError, match="no mask has"):
        parse([letter], [15])


@pytest.mark.parametrize("counts", ["oooooo0", "o" * 7 + "0"], ids=len)
def test_a_number_that_no_mask_needs_is_refused_before_it_runs_over(counts):
    with pytest.raises(UserError, match="no mask has"):
        parse(["9", counts], [9, 9])


def test_empty_runs_within_a_mask_are_told_from_an_empty_first_one():
    """As runs: 1 0 3, then 0 4, then 4."""
    found = parse(["103", "04", "4"], [4, 4, 4])
    assert found.loose.tolist() == [0]
    assert Rle.many([((2, 2), "103"), ((2, 2), "04"), ((2, 2), "4")])[0] == Rle.empty(2, 2)


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_is_an_error_or_another_sound_mask(seed):
    rng = np.random.default_rng(seed)
    texts = [Rle.from_mask(rng.random((12, 9)) < 0.5).counts for _ in range(8)]
    for _ in range(50):
        row, letter = int(rng.integers(8)), chr(int(rng.integers(40, 120)))
        place = int(rng.integers(len(texts[row])))
        damaged = texts[row][:place] + letter + texts[row][place + 1 :]
        try:
            found = parse([*texts[:row], damaged, *texts[row + 1 :]], [108] * 8)
        except UserError:
            continue
        assert found.flat.min() >= 0
        assert np.add.reduceat(found.flat, found.begins).tolist() == [108] * 8
