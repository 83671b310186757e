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
    """The runs by definition, starting with zeros."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


@given(st.lists(masks, min_size=1, max_size=6))
def test_the_runs_of_many_masks_are_parsed(arrays):
    runs = parse([Rle.from_mask(mask).counts for mask in arrays], [mask.size for mask in arrays])
    parts = np.split(runs.flat, runs.ends[:-1])
    assert [part.tolist() for part in parts] == [runs_of(mask) for mask in arrays]
    assert runs.loose.size == 0


@given(st.lists(masks, min_size=2, max_size=6), st.data())
def test_many_rles_equal_single_ones(arrays, data):
    encoded = [(mask.shape, Rle.from_mask(mask).counts) for mask in arrays]
    assert Rle.many(encoded) == [Rle(*pair) for pair in encoded]
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = (encoded[place][0], data.draw(st.sampled_from(["", "P", "9999999", "é", "O"])))
    with pytest.raises(UserError, match="counts"):
        Rle.many(encoded)


def test_the_message_shows_the_first_invalid_counts():
    with pytest.raises(UserError, match="'8' do not fill a mask of 9"):
        parse(["9", "8", "7"], [9, 9, 9])


@pytest.mark.parametrize("letter", ["é", "\udcff", "\x00", "/", "p"])
def test_an_invalid_character_is_refused_and_not_replaced(letter):
    """If the character were replaced by a question mark, the counts would be valid."""
    assert parse(["?"], [15]).flat.tolist() == [15]
    with pytest.raises(UserError, match="invalid run-length counts"):
        parse([letter], [15])


@pytest.mark.parametrize("counts", ["oooooo0", "o" * 7 + "0"], ids=len)
def test_a_number_that_is_too_long_is_refused_before_it_overflows(counts):
    with pytest.raises(UserError, match="invalid run-length counts"):
        parse(["9", counts], [9, 9])


def test_empty_runs_are_distinguished_from_an_empty_first_run():
    """The runs are 1 0 3, then 0 4, then 4."""
    runs = parse(["103", "04", "4"], [4, 4, 4])
    assert runs.loose.tolist() == [0]
    assert Rle.many([((2, 2), "103"), ((2, 2), "04"), ((2, 2), "4")])[0] == Rle.empty(2, 2)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_counts_give_an_error_or_another_valid_mask(seed):
    rng = np.random.default_rng(seed)
    texts = [Rle.from_mask(rng.random((12, 9)) < 0.5).counts for _ in range(8)]
    for _ in range(50):
        row, letter = int(rng.integers(8)), chr(int(rng.integers(40, 120)))
        place = int(rng.integers(len(texts[row])))
        damaged = texts[row][:place] + letter + texts[row][place + 1 :]
        try:
            runs = parse([*texts[:row], damaged, *texts[row + 1 :]], [108] * 8)
        except UserError:
            continue
        assert runs.flat.min() >= 0
        assert np.add.reduceat(runs.flat, runs.begins).tolist() == [108] * 8
