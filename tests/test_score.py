import json
import math
from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Prompt
from sam4mllm.predictions import Prediction
from sam4mllm.rle import Rle
from sam4mllm.samples import Sample
from sam4mllm.score import score, table

HEIGHT, WIDTH = 10, 20


def filled(x0: int, y0: int, x1: int, y1: int) -> Rle:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return Rle.from_mask(mask)


EMPTY = Rle.empty(HEIGHT, WIDTH)
ONE = Sample("one", "a.jpg", WIDTH, HEIGHT, "the cat", (filled(0, 0, 10, 10),))
TWO = replace(ONE, id="two", masks=(filled(0, 0, 6, 10), filled(4, 0, 10, 10)))
NONE = replace(ONE, id="none", masks=())
WHOLE = Prediction("one", (Prompt(Box(0, 0, 10, 10)),), filled(0, 0, 10, 10))
HALF = Prediction("two", (), filled(0, 0, 5, 10))
SILENT = Prediction("none", (), EMPTY)


def test_numbers_by_hand():
    scores = score([ONE, TWO, NONE], [SILENT, HALF, WHOLE], "rela")  # in any order
    assert scores.n == 3
    assert scores.metrics["gIoU"] == pytest.approx((1 + 0.5 + 1) / 3)  # the overlap of two masks counts once
    assert scores.metrics["cIoU"] == pytest.approx(150 / 200)
    assert scores.metrics["N_acc"] == 1
    assert (scores.unreadable, scores.failed, scores.undeserved) == (0, 0, 0)


def test_ignored_pixels_count_neither_way():
    sample = replace(ONE, ignore=filled(5, 0, 20, 10))
    assert score([sample], [replace(WHOLE, mask=filled(0, 0, 5, 10))], "lisa").metrics["cIoU"] == pytest.approx(1)
    assert score([sample], [replace(WHOLE, mask=filled(0, 0, 20, 10))], "lisa").metrics["cIoU"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([Box(0, 0, 10, 10)], 1.0, id="the box"),
        pytest.param([Box(0, 0, 20, 10)], 1.0, id="an IoU of exactly one half"),
        pytest.param([Box(0, 0, 20, 10.1)], 0.0, id="just below"),
        pytest.param([], 0.0, id="none"),
        pytest.param([Box(0, 0, 10, 10), Box(10, 0, 20, 10)], 1.0, id="the first of two"),
        pytest.param([Box(10, 0, 20, 10), Box(0, 0, 10, 10)], 0.0, id="not the second"),
    ],
)
def test_box_accuracy(boxes, expected):
    prediction = replace(WHOLE, prompts=tuple(map(Prompt, boxes)))
    assert score([ONE], [prediction], "lavt").box_accuracy == expected


def test_box_accuracy_is_over_single_targets():
    assert math.isnan(score([TWO, NONE], [HALF, SILENT], "rela").box_accuracy)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"readable": False}, (1, 0, 1), id="unreadable"),
        pytest.param({"error": "no such file"}, (0, 1, 1), id="failed"),
        pytest.param({"mask": filled(0, 0, 1, 1), "readable": False}, (1, 0, 0), id="one of two replies unreadable"),
        pytest.param({}, (0, 0, 0), id="said none"),
    ],
)
def test_silence_that_is_right_by_accident_is_counted(change, expected):
    scores = score([NONE], [replace(SILENT, **change)], "rela")
    assert (scores.unreadable, scores.failed, scores.undeserved) == expected


@pytest.mark.parametrize(
    ("samples", "predictions", "message"),
    [
        pytest.param([ONE, TWO, NONE], [WHOLE], "2 samples have no prediction, the first is two", id="missing"),
        pytest.param([ONE], [WHOLE, HALF, SILENT], "2 predictions are of no sample, the first is two", id="unknown"),
        pytest.param([ONE], [WHOLE, WHOLE], "1 samples have more than one prediction, the first is one", id="twice"),
        pytest.param([ONE], [replace(WHOLE, mask=Rle.empty(WIDTH, HEIGHT))], r"of one \(prediction 1\) has \(h, w\)", id="size"),
        pytest.param([], [], "nothing to score", id="no samples"),
    ],
)
def test_samples_and_predictions_that_do_not_match(samples, predictions, message):
    with pytest.raises(UserError, match=message):
        score(samples, predictions, "lavt")


def test_an_unknown_profile_names_the_choices():
    with pytest.raises(UserError, match="no profile 'res': choose one of lavt, rela, lisa"):
        score([ONE], [WHOLE], "res")


def test_scores_as_json_have_null_for_nan():
    scores = score([ONE], [WHOLE], "rela").to_json()
    assert scores["metrics"]["N_acc"] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_table_is_in_percent():
    rows = {"val": score([ONE], [WHOLE], "rela"), "testA": score([TWO], [replace(HALF, readable=False)], "rela")}
    assert table(rows) == (
        "| set | n | gIoU | cIoU | N_acc | T_acc | Pr@0.7 | Pr@0.8 | Pr@0.9 | box Acc@0.5 | unreadable | failed "
        "| undeserved |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| val | 1 | 100.00 | 100.00 | - | 100.00 | 100.00 | 100.00 | 100.00 | 100.00 | 0.00 | 0 | 0 |\n"
        "| testA | 1 | 50.00 | 50.00 | - | 100.00 | 0.00 | 0.00 | 0.00 | - | 100.00 | 0 | 0 |\n"
    )


def test_a_table_holds_one_profile():
    with pytest.raises(UserError, match="got lavt, rela"):
        table({"a": score([ONE], [WHOLE], "lavt"), "b": score([ONE], [WHOLE], "rela")})
    with pytest.raises(UserError, match="got none"):
        table({})
