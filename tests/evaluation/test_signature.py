from dataclasses import replace

import pytest

from sam4mllm import __version__
from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.signature import Signature, comparable, fingerprint
from sam4mllm.geometry.rle import Rle

ONE = Sample("one", "a.jpg", 2, 2, "it", (Rle.from_runs([1, 3], 2, 2),))
TWO = replace(ONE, id="two", masks=())
SIGNED = Signature("rela", 2, fingerprint([ONE, TWO]), Bootstrap())


def test_a_signature_is_one_line():
    assert str(SIGNED) == (
        f"profile:rela|n:2|samples:{SIGNED.samples}|metric:1|bootstrap:2000,seed 0|sam4mllm:{__version__}"
    )
    assert "bootstrap" not in str(replace(SIGNED, bootstrap=None))
    assert SIGNED.to_json()["text"] == str(SIGNED)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bootstrap": Bootstrap(9, 3)}, True),
        ({"bootstrap": None}, True),
        ({"sam4mllm": "9.9"}, True),
        ({"profile": "gsva"}, False),
        ({"n": 3}, False),
        ({"samples": "0" * 12}, False),
        ({"metric": 2}, False),
    ],
    ids=str,
)
def test_only_fields_that_affect_scores_are_compared(change, expected):
    assert comparable(SIGNED, replace(SIGNED, **change)) == expected


@pytest.mark.parametrize(
    ("samples", "same"),
    [
        ([TWO, ONE], True),
        ([replace(ONE, phrase="that", image="b.jpg"), TWO], True),
        ([ONE], False),
        ([replace(ONE, id="1"), TWO], False),
        ([replace(ONE, masks=(Rle.from_runs([0, 4], 2, 2),)), TWO], False),
        ([replace(ONE, masks=ONE.masks * 2), TWO], False),
        ([replace(ONE, ignore=Rle.empty(2, 2)), TWO], False),
    ],
)
def test_a_fingerprint_covers_ids_and_ground_truths(samples, same):
    assert (fingerprint(samples) == SIGNED.samples) == same
