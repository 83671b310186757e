from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.scores import score_differences
from sam4mllm.report.tables import draw_charts, tabulate_losses, tabulate_scores
from tests.report.made import DRAWS, OTHERS, run


def test_scores_of_two_runs_are_tabulated_with_their_difference(tmp_path):
    first, baseline = run(tmp_path), run(tmp_path, predictions=OTHERS, name="other")
    table = tabulate_scores(first, baseline, score_differences(first.tally, baseline.tally, DRAWS))
    assert all(len(row) == len(table.head) == 6 for row in table.rows)
    rows = {row[0]: row[1:] for row in table.rows}
    giou, baseline_giou, difference = (float(rows["gIoU"][column]) for column in (0, 2, 3))
    assert difference == round(giou - baseline_giou, 2)
    assert rows["failed (expressions)"] == ["1", "", "0", "", ""]
    assert all(len(row) == 3 for row in tabulate_scores(first, None, {}).rows)


def test_precision_falls_with_the_threshold(tmp_path):
    chart = draw_charts([run(tmp_path)])[0]
    shares = [point.y for point in chart.curves[0].points]
    assert len(shares) == 21
    assert shares[0] == 1
    assert shares[-1] == 1 / 7  # one of seven with a target
    assert shares == sorted(shares, reverse=True)


def test_reliability_is_drawn_only_if_the_model_labelled_points(tmp_path):
    charts = draw_charts([run(tmp_path)])
    assert len(charts) == 3
    assert len(draw_charts([run(tmp_path, predictions=OTHERS)])) == 2
    assert "expected calibration error 90.00 % of 1 points" in charts[1].title


def test_losses_are_counted_and_a_gain_has_its_sign():
    entries = [ErrorBreakdown("a", 0.5, {"loose box": 0.75, "segmenter": -0.25})]
    bars, table = tabulate_losses("t", {"all": entries})
    assert table.rows == [["loose box", "+75.00 (1)"], ["segmenter", "-25.00 (1)"], ["total", "50.00"]]
    assert [bars.kinds[index] for index in bars.used_kinds] == ["loose box", "segmenter"]
