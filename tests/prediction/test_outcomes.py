import pytest

from sam4mllm.prediction.outcomes import FAILED, MASK, NONE, UNREADABLE, format_outcomes, outcome


@pytest.mark.parametrize(
    ("has_prompts", "readable", "failed", "expected"),
    [
        (True, True, False, MASK),
        (True, False, False, MASK),  # one of several replies was readable
        (False, True, False, NONE),
        (False, False, False, UNREADABLE),
        (False, True, True, FAILED),
        (True, False, True, FAILED),
    ],
)
def test_an_outcome_follows_from_prompts_replies_and_errors(has_prompts, readable, failed, expected):
    assert outcome(has_prompts, readable, failed) == expected


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ([], "0 predictions: 0 with a mask, 0 without a target, 0 unreadable, 0 failed"),
        ([MASK], "1 prediction: 1 with a mask, 0 without a target, 0 unreadable, 0 failed"),
        ([UNREADABLE] * 3, "3 predictions: 0 with a mask, 0 without a target, 3 unreadable, 0 failed"),
        ([NONE, MASK, FAILED, MASK], "4 predictions: 2 with a mask, 1 without a target, 0 unreadable, 1 failed"),
        ([MASK] * 1234, "1,234 predictions: 1,234 with a mask, 0 without a target, 0 unreadable, 0 failed"),
    ],
)
def test_outcomes_are_counted_in_one_line(outcomes, line):
    assert format_outcomes(iter(outcomes)) == line
