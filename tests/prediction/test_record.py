import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Box, Point, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.language.messages import Reply
from sam4mllm.prediction.record import Prediction, read_outcomes, read_predictions, read_unfinished
from sam4mllm.prediction.store import LockedLines
from sam4mllm.prompters import PointAnswer

FULL = Prediction(
    "a",
    (Prompt(Box(1, 2, 3.5, 4.25), (Point(1.5, 2.5), Point(0.1, 0.2, positive=False))),),
    Rle.from_runs([5, 4, 3], 4, 3),
    (Reply("[1,2,3,4]"), Reply("Yes", finished=False)),
    readable=False,
    point_answers=(PointAnswer(0, 1.5, 2.5, 0.97),),
    error="the segmenter failed",
)
EMPTY = Prediction("b", (), Rle.empty(2, 2))


@pytest.mark.parametrize("prediction", [FULL, EMPTY], ids=["full", "empty"])
def test_a_prediction_round_trips(prediction):
    line = prediction.to_line()
    assert Prediction.from_line(line) == prediction
    assert Prediction.from_line(line).to_line() == line


@given(st.text(st.characters(codec=None)))
def test_no_reply_breaks_the_line_or_the_encoding(text):
    prediction = Prediction("a", (), Rle.empty(2, 2), (Reply(text),))
    line = prediction.to_line()
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert Prediction.from_line(line) == prediction


def test_the_record_is_as_documented():
    assert EMPTY.to_line() == (
        '{"version": 1, "id": "b", "prompts": [], "rle": {"size": [2, 2], "counts": "4"}, "replies": [], '
        '"finished": [], "readable": true, "asked": [], "error": null}'
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"hello\n", "line 1: not a prediction record", id="text"),
        pytest.param(b"hello", "something other than predictions", id="text without a line end"),
        pytest.param(EMPTY.to_line().encode(), "ends within a record", id="no line end"),
        pytest.param(EMPTY.to_line().encode() + b'\n{"vers', "ends within a record", id="cut"),
        pytest.param(EMPTY.to_line().replace(": 1", ": 2").encode() + b"\n", "line 1: .* of version 2", id="newer"),
        pytest.param(EMPTY.to_line().replace('"4"', '"5"').encode() + b"\n", "do not fill", id="a broken mask"),
        pytest.param(EMPTY.to_line().replace('"error"', '"eror"').encode() + b"\n", "KeyError", id="a field missing"),
        pytest.param(b"[]\n", "not a prediction record", id="a list"),
        pytest.param(b"\xff\xfe\n", "not a prediction record", id="not text"),
    ],
)
def test_a_file_that_holds_something_else_is_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def changed(**fields):
    return json.dumps({**json.loads(FULL.to_line()), **fields})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"asked": [[0, 1.0, 1.0, math.nan]]},
            "a point in asked is [object below 1, x, y, P(yes) of 0 to 1], got [0, 1.0",
        ),
        ({"asked": [[0, 1.0, 1.0, -3]]}, "P(yes) of 0 to 1], got [0, 1.0, 1.0, -3]"),
        ({"asked": [[0, 1.0, 1.0, 7]]}, "P(yes) of 0 to 1], got [0, 1.0, 1.0, 7]"),
        ({"asked": [[0, math.nan, 1.0, 0.5]]}, "got [0, nan, 1.0, 0.5]"),
        ({"asked": [[0, 1.0, math.inf, 0.5]]}, "got [0, 1.0, inf, 0.5]"),
        ({"asked": [[1, 1.0, 1.0, 0.5]]}, "object below 1"),
        ({"asked": [[-1, 1.0, 1.0, 0.5]]}, "object below 1"),
        ({"asked": [[0.5, 1.0, 1.0, 0.5]]}, "object below 1"),
        ({"asked": [[0, 1.0, 1.0, 0.5]], "prompts": []}, "object below 0"),
        ({"asked": [[0, 1.0, 0.5]]}, "not a prediction record: ValueError"),
        ({"finished": [True]}, "replies and finished must have the same length, got 2 and 1"),
        ({"replies": []}, "replies and finished must have the same length, got 0 and 2"),
        ({"finished": [True, "no"]}, "finished must be true or false, got 'no'"),
        ({"readable": "no"}, "readable must be true or false, got 'no'"),
        ({"oracle": 0}, "oracle must be true or false, got 0"),
    ],
    ids=str,
)
def test_an_invalid_record_is_an_error_that_names_its_line(tmp_path, fields, says):
    path = tmp_path / "p.jsonl"
    path.write_text(f"{EMPTY.to_line()}\n{changed(**fields)}\n")
    with pytest.raises(UserError) as refusal:
        read_predictions(path)
    assert str(refusal.value).startswith(f"{path}, line 2: ")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("fields", [{"readable": "no"}, {"oracle": 0}], ids=str)
def test_scoring_also_refuses_other_values_than_true_and_false(tmp_path, fields):
    path = tmp_path / "p.jsonl"
    path.write_text(f"{EMPTY.to_line()}\n{changed(**fields)}\n")
    with pytest.raises(UserError, match=r"line 2: (readable|oracle) must be true or false"):
        list(read_outcomes(path))


def test_a_missing_file_is_a_one_line_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        read_predictions(tmp_path / "p.jsonl")


def test_lines_are_appended_after_the_retained_size(tmp_path):
    path = tmp_path / "new" / "p.jsonl"
    with LockedLines(path) as lines:
        lines.append("one")
        lines.append("two")
    with LockedLines(path) as lines:
        lines.keep(4)
        lines.append("zwei")
    assert path.read_text() == "one\nzwei\n"


def test_a_disk_that_fills_within_a_line_leaves_complete_lines(tmp_path):
    resource = pytest.importorskip("resource")
    path, old = tmp_path / "p.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    with LockedLines(path) as lines:
        lines.append("one")
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (10, old[1])
        )  # the system then writes a part of the line and refuses the rest
        try:
            with pytest.raises(UserError, match="cannot write"):
                lines.append("two and more than the disk holds")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert path.read_text() == "one\n"
        lines.append("two")
    assert path.read_text() == "one\ntwo\n"


def test_two_runs_cannot_write_the_same_file(tmp_path):
    with LockedLines(tmp_path / "p.jsonl") as lines:
        with pytest.raises(UserError, match="another run is writing it"):
            LockedLines(tmp_path / "p.jsonl")
        lines.append("{}")
    assert (tmp_path / "p.jsonl").read_text() == "{}\n"


def test_a_device_is_not_a_file_of_predictions():
    with pytest.raises(UserError, match="not a file"):
        read_unfinished(Path("/dev/full"))
