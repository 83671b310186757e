import math
import random

import pytest

from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown, by_label, format_table, means, points, read_breakdowns
from sam4mllm.evaluation.subsets import SUBSETS

LOOSE = ErrorBreakdown("a", 0.75, {"loose box": 0.375, "segmenter": -0.125})
MISSED = ErrorBreakdown("b", 0.0, {"false none": 1.0})
PERFECT = ErrorBreakdown("c", 1.0, {})
ALL = [LOOSE, MISSED, PERFECT]


def test_a_breakdown_survives_a_round_trip(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f"{breakdown.to_line()}\n" for breakdown in ALL))
    assert read_breakdowns(path) == ALL
    assert path.read_text().splitlines()[0] == (
        '{"version": 2, "id": "a", "iou": 0.75, "lost": {"loose box": 0.375, "segmenter": -0.125}}'
    )


def test_fractions_of_version_1_are_read_as_the_nearest_numbers():
    line = '{"version": 1, "id": "a", "iou": "2/3", "lost": {"loose box": "1/2", "segmenter": "-1/6"}}'
    assert ErrorBreakdown.from_line(line) == ErrorBreakdown("a", 2 / 3, {"loose box": 0.5, "segmenter": -1 / 6})
    line = '{"version": 1, "id": "a", "iou": "0", "lost": {"false none": "1"}}'
    assert ErrorBreakdown.from_line(line) == ErrorBreakdown("a", 0.0, {"false none": 1.0})


def test_terms_must_add_up_within_the_tolerance():
    ErrorBreakdown("a", 0.7, {"redrawn": 0.1, "loose box": 0.1, "segmenter": 0.1})  # 1 - 0.7 is not 0.3 in floats
    for lost in ({"segmenter": 1 / 3}, {"segmenter": 0.5 + 1e-11}, {"segmenter": math.nan}):
        with pytest.raises(UserError, match="the error breakdown of a does not add up"):
            ErrorBreakdown("a", 0.5, lost)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("", "not a diagnosis record", id="empty"),
        pytest.param("[]", "not a diagnosis record", id="a list"),
        pytest.param(
            '{"version": 1, "id": "a", "iou": "1/0", "lost": {}}', "not a diagnosis record", id="a division by zero"
        ),
        pytest.param('{"version": 1, "id": "a", "iou": "1/2", "lost": {}}', "does not add up", id="too little"),
        pytest.param('{"version": 1, "id": "a", "iou": "0", "lost": {"luck": "1"}}', "does not add up", id="luck"),
        pytest.param('{"version": 2, "id": "a", "iou": NaN, "lost": {}}', "does not add up", id="nan"),
        pytest.param('{"version": 2, "id": "a", "iou": null, "lost": {}}', "not a diagnosis record", id="null"),
        pytest.param(
            f'{{"version": 1, "id": "a", "iou": "{"9" * 400}/1", "lost": {{}}}}', "not a diagnosis record", id="huge"
        ),
        pytest.param('{"version": 3, "id": "a", "lost": {}}', "diagnosis version 3", id="newer"),
        pytest.param("[" * 200_000, "not a diagnosis record: RecursionError", id="brackets in brackets"),
    ],
)
def test_an_invalid_line_is_named_in_the_error(tmp_path, line, says):
    path = tmp_path / "d.jsonl"
    path.write_text(f"{MISSED.to_line()}\n{line}\n")
    with pytest.raises(UserError, match=rf"d\.jsonl, line 2: .*{says}"):
        read_breakdowns(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_breakdowns(tmp_path / "missing.jsonl")


def random_breakdown(rng, number):
    """A breakdown of three random IoUs; each term is rounded."""
    ious = [rng.randrange(whole + 1) / whole for whole in (rng.randrange(1, 10**6) for _ in range(3))]
    terms = {"loose box": ious[1] - ious[0], "point labels": ious[2] - ious[1], "segmenter": 1 - ious[2]}
    return ErrorBreakdown(str(number), ious[0], terms)


@pytest.mark.parametrize("count", [1, 7, 3000])
def test_means_add_up_to_the_mean_loss_in_any_order(count):
    rng = random.Random(count)
    breakdowns = [random_breakdown(rng, number) for number in range(count)]
    lost = means(breakdowns)
    assert math.fsum(lost.values()) == pytest.approx(
        math.fsum(breakdown.loss for breakdown in breakdowns) / count, rel=0, abs=1e-12
    )
    rng.shuffle(breakdowns)
    assert means(breakdowns) == lost


def test_a_mean_within_rounding_error_of_0_is_0():
    lost = [1 / 3, 1 / 6, -1 / 2]
    assert math.fsum(lost) != 0
    breakdowns = [ErrorBreakdown("a", 1 - term, {"segmenter": term}) for term in lost]
    assert means(breakdowns)["segmenter"] == 0
    assert "| segmenter | 0 (3) |" in format_table({"all": breakdowns})
    assert points(-1e-17) == "0.00"


def test_the_table_shows_losses_and_gains_with_their_sign():
    table = format_table({"all": ALL})
    assert "| mean IoU | 58.33 |" in table
    assert "| false none | +33.33 (1) |" in table
    assert "| segmenter | -4.17 (1) |" in table
    assert "| unreadable | 0 (0) |" in table
    assert table.endswith("| all of the loss | 41.67 |\n")


def test_groups_are_in_the_order_of_the_subsets():
    labels = {"a": "2", "b": "none", "c": "2"}
    assert by_label(ALL, labels, SUBSETS["targets"]) == {"none": [MISSED], "2": [LOOSE, PERFECT]}
