import json
import math
from dataclasses import replace

import numpy as np
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import PROFILES
from sam4mllm.evaluation.pairing import by_label, evaluate_set
from sam4mllm.evaluation.scores import score, score_differences, table
from sam4mllm.evaluation.subsets import SUBSETS
from sam4mllm.geometry.prompts import Box, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction
from tests.drawing import HEIGHT, WIDTH, filled

EMPTY = Rle.empty(HEIGHT, WIDTH)
ONE = Sample("one", "a.jpg", WIDTH, HEIGHT, "the cat", (filled(0, 0, 10, 10),))
TWO = replace(ONE, id="two", masks=(filled(0, 0, 6, 10), filled(4, 0, 10, 10)))
NONE = replace(ONE, id="none", masks=())
WHOLE = Prediction("one", (Prompt(Box(0, 0, 10, 10)),), filled(0, 0, 10, 10))
HALF = Prediction("two", (), filled(0, 0, 5, 10))
SILENT = Prediction("none", (), EMPTY)


def test_metrics_match_values_computed_by_hand():
    scores = score([ONE, TWO, NONE], [SILENT, HALF, WHOLE], "rela")  # in any order
    assert scores.n == 3
    assert scores.metrics["gIoU"] == pytest.approx((1 + 0.5 + 1) / 3)  # the overlap of two masks counts once
    assert scores.metrics["cIoU"] == pytest.approx(150 / 200)
    assert scores.metrics["N_acc"] == 1
    assert (scores.unreadable, scores.failed, scores.undeserved) == (0, 0, 0)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([Box(0, 0, 10, 10)], 1.0, id="the box"),
        pytest.param([Box(0, 0, 20, 10)], 1.0, id="an IoU of exactly one half"),
        pytest.param([Box(0, 0, 20, 10.1)], 0.0, id="just below"),
        pytest.param([], 0.0, id="none"),
        pytest.param([Box(-1e200, -1e200, 1e200, 1e200)], 0.0, id="far larger than numbers go"),
        pytest.param([Box(-1.7e308, 5, 1.7e308, 5)], 0.0, id="as long, and of no area"),
        pytest.param([Box(0, 0, 10, 10), Box(10, 0, 20, 10)], 1.0, id="the first of two"),
        pytest.param([Box(10, 0, 20, 10), Box(0, 0, 10, 10)], 0.0, id="not the second"),
    ],
)
def test_box_accuracy(boxes, expected):
    prediction = replace(WHOLE, prompts=tuple(map(Prompt, boxes)))
    assert score([ONE], [prediction], "lavt").box_accuracy == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"readable": False}, (1, 0, 1), id="unreadable"),
        pytest.param({"error": "no such file"}, (0, 1, 1), id="failed"),
        pytest.param({"mask": filled(0, 0, 1, 1), "readable": False}, (1, 0, 0), id="one of two replies unreadable"),
        pytest.param({}, (0, 0, 0), id="said none"),
    ],
)
def test_undeserved_empty_masks_are_counted(change, expected):
    scores = score([NONE], [replace(SILENT, **change)], "rela")
    assert (scores.unreadable, scores.failed, scores.undeserved) == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profile_defines_the_iou_of_an_undeserved_empty_mask(profile):
    scores = score([NONE], [replace(SILENT, readable=False)], profile)
    assert scores.undeserved == 1
    mean = scores.metrics["mIoU" if profile == "lavt" else "gIoU"]
    assert mean == (0 if profile == "lavt" else 1)


@pytest.mark.parametrize(
    ("samples", "predictions", "message"),
    [
        pytest.param([ONE, TWO, NONE], [WHOLE], "2 samples have no prediction, first two", id="missing"),
        pytest.param([ONE], [WHOLE, HALF, SILENT], "2 predictions match no sample, first two", id="unknown"),
        pytest.param([ONE], [WHOLE, WHOLE], r"1 predictions repeat a sample, first one \(prediction 2\)", id="twice"),
        pytest.param(
            [ONE],
            [replace(WHOLE, mask=Rle.empty(WIDTH, HEIGHT))],
            r"prediction of one \(prediction 1\): the mask has size \(h, w\) = \(20, 10\)",
            id="size",
        ),
        pytest.param([], [], "no samples to score", id="no samples"),
        pytest.param(
            [ONE, TWO, NONE],
            [replace(WHOLE, id="coco-1"), replace(WHOLE, id="coco-2")],
            r"another dataset: none of the 2 matches one of these 3 .* coco-1 \(prediction 1\), the first sample one",
            id="another dataset",
        ),
    ],
)
def test_samples_and_predictions_that_do_not_match(samples, predictions, message):
    with pytest.raises(UserError, match=message):
        score(samples, predictions, "lavt")


def many(pictures: int, each: int = 2) -> tuple[list[Sample], list[Prediction], list[Prediction]]:
    """Samples of random rectangles, some without a target; perfect predictions, and worse ones."""
    rng = np.random.default_rng(1)
    samples, good, worse = [], [], []
    for number in range(pictures * each):
        x, y = (int(rng.integers(0, side // 2)) for side in (WIDTH, HEIGHT))
        ground_truth = filled(x, y, x + 8, y + 5)
        masks = (ground_truth,) if number % 5 else ()
        samples.append(
            replace(ONE, id=f"s{number}", image=f"{number // each}.jpg", masks=masks, phrase="a " * (number % 7))
        )
        said = (Prompt(ground_truth.box),) if masks else ()
        good.append(Prediction(f"s{number}", said, ground_truth if masks else EMPTY))
        worse.append(Prediction(f"s{number}", said, filled(x, y, x + 1 + int(rng.integers(8)), y + 3)))
    return samples, good, worse


@pytest.mark.parametrize("profile", PROFILES)
def test_the_ground_truth_scores_one(profile):
    samples, good, _ = many(10)
    if profile == "lavt":  # gives no credit for expressions without a target
        samples, good = (
            [one for one, sample in zip(some, samples, strict=True) if sample.masks] for some in (samples, good)
        )
    scores = score(samples, good, profile, Bootstrap(draws=50))
    assert all(value == pytest.approx(1, abs=1e-6) for value in scores.metrics.values() if not math.isnan(value))
    assert scores.box_accuracy == 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("lot", [1, 7, 100])
def test_scores_are_independent_of_order_and_chunk_size(profile, lot, monkeypatch):
    samples, _, worse = many(12)
    expected = score(samples, worse, profile, Bootstrap(draws=50))
    monkeypatch.setattr("sam4mllm.evaluation.pairing.CHUNK_SIZE", lot)
    shuffled = [worse[place] for place in np.random.default_rng(2).permutation(len(worse))]
    assert str(score(samples, shuffled, profile, Bootstrap(draws=50))) == str(expected)


@pytest.mark.parametrize("name", SUBSETS)
def test_subsets_add_up_to_all_samples(name):
    samples, _, worse = many(12)
    whole = evaluate_set(samples, worse, "rela")
    parts = by_label(whole, SUBSETS[name])
    assert len(parts) > (name == "words")
    assert list(parts) == [label for label in SUBSETS[name].labels if label in parts]
    assert sum(len(part) for part in parts.values()) == len(whole)
    for metric, ratio in whole.ratios.items():
        assert sum(part.ratios[metric].over.sum() for part in parts.values()) == pytest.approx(ratio.over.sum())
        assert sum(part.ratios[metric].under.sum() for part in parts.values()) == ratio.under.sum()


def test_intervals_contain_the_metric_and_depend_only_on_the_seed():
    samples, _, worse = many(30)
    one, again, other = (score(samples, worse, "rela", Bootstrap(500, seed)) for seed in (0, 0, 1))
    assert one == again
    assert one.intervals != other.intervals
    for name, value in one.metrics.items():
        low, high = one.intervals[name]
        assert low <= value <= high


def test_two_runs_are_compared_by_sample_in_any_order():
    samples, good, worse = many(30)
    first, second = evaluate_set(samples, good, "rela"), evaluate_set(samples[::-1], worse, "rela")
    apart, low, high = score_differences(first, second, Bootstrap(300))["cIoU"]
    assert 0 < low < apart < high
    assert apart == pytest.approx(first.ratios["cIoU"].value - second.ratios["cIoU"].value)
    assert score_differences(first, first, Bootstrap(100))["gIoU"] == (0, 0, 0)


def test_runs_with_other_samples_or_profiles_are_not_compared():
    samples, good, _ = many(3)
    first = evaluate_set(samples, good, "rela")
    for second in (evaluate_set(samples, good, "lavt"), evaluate_set(samples[:-1], good[:-1], "rela")):
        with pytest.raises(UserError, match="not comparable: profile:rela"):
            score_differences(first, second, Bootstrap(10))


def test_oracle_scores_are_marked():
    scores = score([ONE], [replace(WHOLE, oracle=True)], "lavt")
    assert scores.to_json()["oracle"] == 1
    assert "| val (oracle, no model) | 1 |" in table({"val": scores})


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
