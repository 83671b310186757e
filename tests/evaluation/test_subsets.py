import numpy as np
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.subsets import SUBSETS, subsets_named
from sam4mllm.geometry.rle import Rle

SIDE = 200


def sample(*boxes, phrase="it", kind="phrase"):
    masks = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[y0:y1, x0:x1] = True
        masks.append(Rle.from_mask(mask))
    return Sample("s", "s.jpg", SIDE, SIDE, phrase, tuple(masks), kind=kind)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("size", sample(), "none"),
        ("size", sample((0, 0, 31, 33)), "small"),
        ("size", sample((0, 0, 32, 32)), "medium"),
        ("size", sample((0, 0, 96, 96)), "medium"),
        ("size", sample((0, 0, 96, 97)), "large"),
        ("size", sample((0, 0, 31, 31), (0, 0, 31, 31)), "small"),
        ("size", sample((0, 0, 31, 31), (50, 50, 81, 81)), "medium"),
        ("share", sample(), "none"),
        ("share", sample((0, 0, 19, 20)), "below 1 %"),
        ("share", sample((0, 0, 20, 20)), "1 to 5 %"),
        ("share", sample((0, 0, 100, 100)), "20 % and more"),
        ("aspect", sample(), "none"),
        ("aspect", sample((0, 0, 20, 10)), "even"),
        ("aspect", sample((0, 0, 21, 10)), "wide"),
        ("aspect", sample((0, 0, 10, 21)), "tall"),
        ("aspect", sample((0, 0, 10, 10), (0, 90, 10, 100)), "tall"),
        ("words", sample(phrase="it"), "1 to 2"),
        ("words", sample(phrase="the red cup"), "3 to 5"),
        ("words", sample(phrase="a " * 11), "11 and more"),
        ("targets", sample(), "none"),
        ("targets", sample((0, 0, 1, 1)), "1"),
        ("targets", sample(*[(0, 0, 1, 1)] * 4), "3 and more"),
        ("kind", sample(), "short"),
        ("kind", sample(kind="sentence"), "long"),
    ],
)
def test_labels_by_hand(name, given, expected):
    assert SUBSETS[name].label_of(given) == expected
    assert expected in SUBSETS[name].labels


def test_an_unknown_name_of_subsets_lists_the_choices():
    with pytest.raises(
        UserError, match="unknown subsets 'length': choose from size, share, aspect, words, targets, kind"
    ):
        subsets_named("length")
