import pytest

from sam4mllm.evaluation.oracle_swaps import STAGES
from sam4mllm.report.cards import STAGE_TEXTS, Selection, draw_sections, select_samples
from tests.report.made import OTHERS, run, samples

# failures that the prompts reveal without a diagnosis
EARLY = {
    "failed": ["failed"],
    "unreadable": ["unreadable"],
    "false none": ["silent"],
    "missed none": ["talkative"],
    "wrong instance": ["elsewhere"],
    "loose box": ["loose"],
    "point labels": ["mislabelled"],
}


def ids_by_heading(selections):
    return {selection.heading: [sample.id for sample in selection.samples] for selection in selections}


@pytest.mark.parametrize("diagnosed", [True, False], ids=["diagnosed", "told from the prompts"])
def test_each_kind_of_failure_is_shown(tmp_path, diagnosed):
    found = ids_by_heading(select_samples(run(tmp_path, diagnosed), None, 6))
    assert {stage: found[f"Lost to: {stage}"] for stage in STAGES if found[f"Lost to: {stage}"]} == EARLY


def test_the_best_and_the_worst_have_a_target_and_equals_are_in_order(tmp_path):
    found = ids_by_heading(select_samples(run(tmp_path), None, 3))
    assert found["Best"] == ["right", "mislabelled", "loose"]
    assert found["Worst"] == ["failed", "unreadable", "silent"]


def test_what_changed_most_comes_first(tmp_path):
    found = ids_by_heading(select_samples(run(tmp_path), run(tmp_path, predictions=OTHERS, name="other"), 2))
    assert list(found)[:2] == ["Better than other", "Worse than other"]
    assert found["Better than other"] == ["right"]
    assert found["Worse than other"] == ["failed", "unreadable"]


def test_a_card_shows_the_ground_truth_the_prediction_and_the_replies(tmp_path):
    one, two = run(tmp_path), run(tmp_path, predictions=OTHERS, name="other")
    selections = [Selection("all", "", one.tally.samples)]
    [section] = draw_sections(selections, samples(tmp_path), [one])
    cards = {card.sample_id: card for card in section.cards}
    assert [panel.caption for panel in cards["loose"].panels] == ["ground truth", "predicted, IoU 0.800"]
    assert [cards[name].panels[1].caption.split(",")[0] for name in ("failed", "unreadable", "silent")] == [
        "failed",
        "unreadable",
        "none",
    ]
    assert cards["failed"].fault == "out of memory"
    assert cards["talkative"].panels[0].caption == "ground truth: no target"
    assert cards["mislabelled"].facts == ("0 positive, 1 negative points", "of 1 asked", "point labels +12.50")
    assert cards["loose"].replies == ("reply loose",)
    [section] = draw_sections(selections, samples(tmp_path), [one, two])
    assert [panel.caption for panel in section.cards[6].panels][1:] == [
        "mine: predicted, IoU 0.800",
        "other: predicted, IoU 0.889",
    ]
    assert section.cards[6].replies == ("mine: reply loose", "other: reply loose")


def test_a_sample_in_several_sections_is_drawn_once(tmp_path):
    one = run(tmp_path)
    selections = [Selection("a", "", one.tally.samples[:2]), Selection("b", "", one.tally.samples[1:2])]
    first, second = draw_sections(selections, samples(tmp_path), [one])
    assert second.cards[0] is first.cards[1]


def test_a_missing_image_leaves_a_card_with_the_reason(tmp_path):
    one, there = run(tmp_path), samples(tmp_path)
    (tmp_path / "3.png").unlink()
    [section] = draw_sections([Selection("all", "", [one.tally.samples[7]])], there, [one])
    assert section.cards[0].panels == ()
    assert "no such file" in section.cards[0].fault


def test_every_stage_is_explained():
    assert list(STAGE_TEXTS) == list(STAGES)
