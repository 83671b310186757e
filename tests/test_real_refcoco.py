"""The main job on real photos, sentences and masks, with recorded replies: what `benchmarks/real_refcoco.py` runs."""

import pytest

from benchmarks.real_refcoco import DAMAGES, DIALECT_OF, cut, cut_short, in_prose, make_replies, nonsense, run, swapped
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt, box_iou
from sam4mllm.language.dialects import DIALECTS
from sam4mllm.language.templates import format_prompts, parse_prompts

PROMPT = Prompt(Box(10, 20, 300, 200), (Point(50.5, 60.5), Point(70.5, 80.5), Point(290.5, 30.5, positive=False)))
FRAME = Frame.unscaled(640, 480)


@pytest.mark.parametrize("name", DIALECT_OF.values())
@pytest.mark.parametrize(
    ("damage", "readable", "points"),
    [
        (cut, True, range(1, 3)),
        (cut_short, False, [0]),
        (in_prose, True, [3]),
        (swapped, True, [3]),
        (nonsense, False, [0]),
    ],
)
def test_damage_is_what_it_says(name, damage, readable, points):
    dialect = DIALECTS[name]
    reading = parse_prompts(damage(format_prompts([PROMPT], "the cat", dialect, FRAME)), dialect, FRAME)
    assert reading.readable == readable
    assert sum(len(prompt.points) for prompt in reading.prompts) in points
    assert all(box_iou(prompt.box, PROMPT.box) > 0.97 for prompt in reading.prompts)


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """All 57 sentences, each set in its own dialect, half of the replies damaged."""
    return {
        dataset: run(real_data / "refcoco_real", dataset, tmp_path_factory.mktemp("real"), damaged=True)
        for dataset in DIALECT_OF
    }


def test_all_57_sentences_are_predicted_and_scored(real):
    assert {dataset: scores.n for dataset, (_, _, scores) in real.items()} == {
        "refcoco": 24,
        "refcoco+": 24,
        "refcocog": 9,
    }
    assert all(scores.failed == 0 for _, _, scores in real.values())


@pytest.mark.parametrize("dataset", DIALECT_OF)
def test_exactly_the_replies_without_a_place_are_unreadable(real, dataset):
    samples, predictions, scores = real[dataset]
    intact = make_replies(samples.samples, DIALECTS[DIALECT_OF[dataset]], damaged=False)
    lost = []
    for number, prediction in enumerate(predictions):
        damage = DAMAGES[number // 2 % len(DAMAGES)] if number % 2 else None
        lost.append(damage in (cut_short, nonsense))
        assert prediction.readable != lost[-1]
        assert (prediction.replies[0].text == intact[number]) == (damage is None)
    assert scores.unreadable == sum(lost) > 0


@pytest.mark.parametrize("dataset", DIALECT_OF)
def test_every_readable_box_is_the_true_one(real, dataset):
    samples, predictions, scores = real[dataset]
    for sample, prediction in zip(samples, predictions, strict=True):
        assert all(box_iou(prompt.box, sample.ground_truth.box) > 0.9 for prompt in prediction.prompts)
        assert bool(prediction.prompts) == prediction.readable
    assert scores.box_accuracy == pytest.approx(1 - scores.unreadable / scores.n)


def test_the_masks_are_worth_something(real):
    for _, _, scores in real.values():
        lost = scores.unreadable / scores.n
        assert 0.4 < scores.metrics["mIoU"] <= 1 - lost
        assert scores.metrics["Pr@0.5"] > 0.4
