from fractions import Fraction

import pytest

from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import Entry, added, by_label, means, read_ledger, table
from sam4mllm.evaluation.subsets import STRATA

ONE = Entry("a", Fraction(3, 4), {"loose box": Fraction(1, 3), "segmenter": Fraction(-1, 12)})
TWO = Entry("b", Fraction(0), {"false none": Fraction(1)})
THREE = Entry("c", Fraction(1), {})


def test_an_entry_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f"{one.to_line()}\n" for one in (ONE, TWO, THREE)))
    assert read_ledger(path) == [ONE, TWO, THREE]
    assert path.read_text().splitlines()[0] == (
        '{"version": 1, "id": "a", "iou": "3/4", "lost": {"loose box": "1/3", "segmenter": "-1/12"}}'
    )


def test_what_does_not_add_up_is_no_entry():
    with pytest.raises(UserError, match="the ledger of a does not add up"):
        Entry("a", Fraction(1, 2), {"segmenter": Fraction(1, 3)})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("", "no record of a diagnosis", id="empty"),
        pytest.param("[]", "no record of a diagnosis", id="a list"),
        pytest.param('{"version": 1, "id": "a", "iou": "1/0", "lost": {}}', "no record", id="a division by zero"),
        pytest.param('{"version": 1, "id": "a", "iou": "1/2", "lost": {}}', "does not add up", id="too little"),
        pytest.param('{"version": 1, "id": "a", "iou": "0", "lost": {"luck": "1"}}', "does not add up", id="luck"),
        pytest.param('{"version": 2, "id": "a", "lost": {}}', "a diagnosis of version 2", id="newer"),
        pytest.param("[" * 200_000, "no record of a diagnosis: RecursionError", id="brackets in brackets"),
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path, line, says):
    path = tmp_path / "d.jsonl"
    path.write_text(f"{TWO.to_line()}\n{line}\n")
    with pytest.raises(UserError, match=rf"d\.jsonl, line 2: .*{says}"):
        read_ledger(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_ledger(tmp_path / "missing.jsonl")


def test_means_add_up_to_the_mean_loss_exactly():
    found = means([ONE, TWO, THREE])
    assert found["loose box"] == Fraction(1, 9)
    assert sum(found.values()) == (ONE.loss + TWO.loss + THREE.loss) / 3


def test_sums_are_exact_whatever_their_length():
    terms = [Fraction(1, number) for number in range(1, 200)]
    assert added(terms) == sum(terms)
    assert added([]) == 0


def test_the_table_shows_what_was_lost_and_won_with_its_sign():
    shown = table({"all": [ONE, TWO, THREE]})
    assert "| mean IoU | 58.33 |" in shown
    assert "| false none | +33.33 (1) |" in shown
    assert "| segmenter | -2.78 (1) |" in shown
    assert "| unreadable | 0 (0) |" in shown
    assert shown.endswith("| all of the loss | 41.67 |\n")


def test_groups_are_in_the_order_of_the_stratum():
    labels = {"a": "2", "b": "none", "c": "2"}
    assert by_label([ONE, TWO, THREE], labels, STRATA["targets"]) == {"none": [TWO], "2": [ONE, THREE]}
