import re

from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.scores import compared
from sam4mllm.report.figures import figures, lost, numbers
from tests.report.made import DRAWS, OTHERS, run
from tests.report.parsed import Page


def test_numbers_of_two_runs_stand_side_by_side_with_their_difference(tmp_path):
    one, two = run(tmp_path), run(tmp_path, predictions=OTHERS, name="other")
    table = numbers(one, two, compared(one.tally, two.tally, DRAWS))
    assert all(len(row) == len(table.head) == 6 for row in table.rows)
    rows = {row[0]: row[1:] for row in table.rows}
    mine, theirs, apart = (float(rows["gIoU"][column]) for column in (0, 2, 3))
    assert apart == round(mine - theirs, 2)
    assert rows["failed (expressions)"] == ["1", "", "0", "", ""]
    assert all(len(row) == 3 for row in numbers(one, None, {}).rows)


def test_precision_falls_from_the_share_that_is_there_at_all(tmp_path):
    drawn = figures([run(tmp_path)])[0]
    reached = [float(one) for one in re.findall(r"mine, Pr@[\d.]+ ([\d.]+)</title>", drawn)]
    assert len(reached) == 21
    assert reached[0] == 100
    assert reached[-1] == 14.29  # one of seven with a target
    assert reached == sorted(reached, reverse=True)


def test_reliability_is_drawn_where_points_were_asked_about(tmp_path):
    assert len(figures([run(tmp_path)])) == 3
    assert len(figures([run(tmp_path, predictions=OTHERS)])) == 2
    assert "expected calibration error 90.00 % of 1 points" in figures([run(tmp_path)])[1]


def test_what_was_lost_is_drawn_and_counted_and_a_gain_has_its_sign():
    entries = [ErrorBreakdown("a", 0.5, {"loose box": 0.75, "segmenter": -0.25})]
    bars, table = lost("t", {"all": entries})
    assert table.rows == [["loose box", "+75.00 (1)"], ["segmenter", "-25.00 (1)"], ["all of the loss", "50.00"]]
    assert Page(bars).text("li") == ["loose box", "segmenter"]
