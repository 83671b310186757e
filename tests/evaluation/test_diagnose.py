import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown, by_label, diagnose, means
from sam4mllm.evaluation.scores import score
from sam4mllm.evaluation.subsets import SUBSETS
from sam4mllm.geometry.prompts import Point, Prompt
from sam4mllm.geometry.rle import Rle
from tests.drawing import HEIGHT, WIDTH, Painter, filled, given, sample
from tests.report.made import box, said

LEFT, RIGHT = filled(0, 0, 8, 10), filled(10, 0, 18, 10)
STAIRS = Rle.from_mask(np.tri(HEIGHT, WIDTH, dtype=bool))  # half of its box, so filling the box fits poorly


def of(folder, ground_truth, prediction, profile="rela", painter=None):
    [entry] = diagnose(given(folder, ground_truth), [prediction], painter or Painter(), profile)
    return entry


@pytest.mark.parametrize(
    ("masks", "prediction", "lost"),
    [
        pytest.param([LEFT], said("x", box(0, 0, 8, 10)), {}, id="nothing"),
        pytest.param([LEFT], said("x"), {"false none": "1"}, id="false none"),
        pytest.param([LEFT], said("x", readable=False), {"unreadable": "1"}, id="unreadable"),
        pytest.param([STAIRS], said("x"), {"false none": "11/20", "segmenter": "9/20"}, id="as far as the box goes"),
        pytest.param([], said("x", box(0, 0, 1, 1)), {"missed none": "1"}, id="missed none"),
        pytest.param([], said("x"), {}, id="a true none"),
        pytest.param([LEFT], said("x", box(10, 0, 18, 10)), {"wrong instance": "1"}, id="wrong instance"),
        pytest.param([LEFT, RIGHT], said("x", box(10, 0, 18, 10)), {"wrong instance": "1/2"}, id="half of the objects"),
        pytest.param([LEFT], said("x", box(0, 0, 10, 10)), {"loose box": "1/5"}, id="loose"),
        pytest.param(
            [LEFT],
            said("x", box(0, 0, 8, 10, Point(1.5, 5, positive=False), Point(3.5, 5, positive=False))),
            {"point labels": "1/4"},
            id="labels",
        ),
        pytest.param(
            [LEFT],
            said("x", box(0, 0, 10, 10, Point(9.5, 5, positive=False))),
            {"loose box": "1/9"},
            id="a point that made good for the box",
        ),
        pytest.param([STAIRS], said("x", box(0, 0, 10, 10)), {"segmenter": "9/20"}, id="the ceiling"),
        pytest.param([LEFT], replace(said("x"), error="no such file"), {"failed": "1"}, id="failed"),
        pytest.param([], replace(said("x"), error="no such file"), {}, id="failed about nothing"),
        pytest.param(
            [LEFT], replace(said("x", box(0, 0, 8, 10)), mask=filled(0, 0, 4, 10)), {"redrawn": "1/2"}, id="redrawn"
        ),
    ],
)
def test_loss_is_attributed_to_the_stage_that_caused_it(tmp_path, masks, prediction, lost):
    nearest = {stage: float(Fraction(term)) for stage, term in lost.items()}
    assert of(tmp_path, sample("x", *masks), prediction).lost == nearest


def test_a_stage_that_improved_the_mask_has_a_negative_loss(tmp_path):
    narrow = box(0, 2, 8, 10)  # leaves out two rows with few pixels of the stairs
    entry = of(tmp_path, sample("x", STAIRS), said("x", narrow))
    assert entry.lost["loose box"] < 0
    assert math.fsum(entry.lost.values()) == pytest.approx(1 - entry.iou, rel=0, abs=1e-12)


def test_ignored_pixels_are_not_counted(tmp_path):
    ground_truth = sample("x", LEFT, ignore=filled(8, 0, 20, 10))
    assert of(tmp_path, ground_truth, said("x", box(0, 0, 10, 10)), "lisa").lost == {}
    assert of(tmp_path, ground_truth, said("x", box(0, 0, 10, 10)), "bool-ignore").lost == {
        "loose box": -20 / 200,
        "segmenter": 120 / 200,
    }


def test_the_profile_defines_the_iou_of_two_empty_masks(tmp_path):
    assert of(tmp_path, sample("x"), said("x"), "rela").iou == 1
    assert of(tmp_path, sample("x"), said("x"), "lavt").iou == 0


def random_case(rng, number):
    """A random sample, and a random prediction independent of it."""
    masks = [Rle.from_mask(np.array(rng.choices([0, 1], k=200), bool).reshape(10, 20)) for _ in range(rng.randrange(3))]

    def prompt():
        x, y = rng.uniform(0, 15), rng.uniform(0, 6)
        points = [Point(rng.uniform(0, 19), rng.uniform(0, 9), rng.random() < 0.5) for _ in range(rng.randrange(4))]
        return box(x, y, x + rng.uniform(1, 5), y + rng.uniform(1, 4), *points)

    prompts = [prompt() for _ in range(rng.randrange(4))]
    prompts += [Prompt(mask.box, prompt().points) for mask in masks[: rng.randrange(3)] if mask.box]
    ground_truth = sample(f"s{number}", *masks, image=f"{number % 7}.png", ignore=rng.choice([None, RIGHT]))
    failed = "lost" if rng.random() < 0.1 else None
    return ground_truth, said(ground_truth.id, *([] if failed else prompts), readable=rng.random() < 0.8, error=failed)


@pytest.mark.parametrize("profile", ["rela", "lisa", "lavt", "gsva", "bool-ignore"])
def test_terms_add_up_to_the_loss_one_by_one_and_by_subset(tmp_path, profile):
    samples, predictions = zip(*(random_case(random.Random(number), number) for number in range(60)), strict=True)
    entries = diagnose(given(tmp_path, *samples), predictions, Painter(), profile)
    assert [entry.id for entry in entries] == [one.id for one in samples]
    assert all(abs(math.fsum(entry.lost.values()) - (1 - entry.iou)) <= 1e-12 for entry in entries)
    assert [ErrorBreakdown.from_line(entry.to_line()) for entry in entries] == entries
    assert any(term < 0 for entry in entries for term in entry.lost.values())
    assert all("redrawn" not in entry.lost for entry in entries)
    labels = {one.id: SUBSETS["targets"].label_of(one) for one in samples}
    groups = by_label(entries, labels, SUBSETS["targets"])
    assert sum(map(len, groups.values())) == 60
    for group in [entries, *groups.values()]:
        mean_loss = math.fsum(entry.loss for entry in group) / len(group)
        assert math.fsum(means(group).values()) == pytest.approx(mean_loss, rel=0, abs=1e-12)
    name = "mIoU" if profile == "lavt" else "gIoU"
    mean = score(samples, predictions, profile).metrics[name]
    assert math.fsum(entry.iou for entry in entries) / 60 == pytest.approx(mean, abs=1e-6)  # the protocol's epsilon


def test_an_image_is_embedded_once_and_equal_prompts_are_segmented_once(tmp_path):
    samples = [sample("a", LEFT), sample("b", LEFT), sample("c", LEFT, image="c.png")]
    painter = Painter()
    diagnose(given(tmp_path, *samples), [said(one.id, box(0, 0, 10, 10)) for one in samples], painter, "rela")
    assert painter.embedded == 2
    assert painter.drawn == [box(0, 0, 10, 10), box(0, 0, 8, 10)] * 2


def test_an_image_without_prompts_is_not_read(tmp_path):
    samples = given(tmp_path, sample("a"), sample("b", LEFT, image="gone.png"))
    (tmp_path / "gone.png").unlink()
    entries = diagnose(samples, [said("a"), said("b", error="no such file")], Painter(), "rela")
    assert [entry.loss for entry in entries] == [0, 1]


def test_a_missing_image_is_named_in_the_error(tmp_path):
    samples = given(tmp_path, sample("a", LEFT))
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"sample a: no such file: .*a\.png"):
        diagnose(samples, [said("a")], Painter(), "rela")
