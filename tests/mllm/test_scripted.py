from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.dialects import dialect
from sam4mllm.language.messages import Reply, Turn
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.mllm.scripted import ScriptedMLLM

WIDE, TALL = np.zeros((2, 4, 3), np.uint8), np.zeros((6, 3, 3), np.uint8)


def recorded(folder: Path, *records: object) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n", encoding="utf-8")
    return path


def test_the_model_and_its_chats_satisfy_the_protocols() -> None:
    mllm = ScriptedMLLM(lambda key, image, turns: "none")
    assert isinstance(mllm, MLLM)
    assert isinstance(mllm.open([WIDE]), Chat)
    assert mllm.dialect is dialect("sam4mllm")
    assert ScriptedMLLM(lambda key, image, turns: "", dialect=dialect("gemma")).dialect is dialect("gemma")


def test_the_function_gets_the_complete_conversation() -> None:
    calls: list[tuple[str, int, list[Turn]]] = []

    def says(key: str, image: np.ndarray, turns: list[Turn]) -> str:
        calls.append((key, image.shape[1], list(turns)))
        return f"{key}{len(turns)}"

    chat = ScriptedMLLM(says).open([WIDE, TALL], ["a", "b"])
    assert chat.frames == [Frame.unscaled(4, 2), Frame.unscaled(3, 6)]
    assert chat.answer(["one", "two"]) == [Reply("a1"), Reply("b1")]
    assert chat.answer(["", "three"]) == [Reply(""), Reply("b3")]
    assert calls == [
        ("a", 4, [Turn("user", "one")]),
        ("b", 3, [Turn("user", "two")]),
        ("b", 3, [Turn("user", "two"), Turn("assistant", "b1"), Turn("user", "three")]),
    ]


def test_option_probabilities_sum_to_one_and_append_no_turns() -> None:
    turn_counts = []

    def leans(key: str, image: np.ndarray, turns: list[Turn], question: str, options: list[str]) -> list[float]:
        turn_counts.append(len(turns))
        return [len(question), 1.0, 1.0]

    chat = ScriptedMLLM(lambda key, image, turns: "", leans).open([WIDE, TALL])
    probabilities = chat.choose([["ab", "abcdef"], []], ("x", "y", "z"))
    np.testing.assert_allclose(probabilities[0], [[0.5, 0.25, 0.25], [0.75, 0.125, 0.125]])
    assert probabilities[1].shape == (0, 3)
    assert turn_counts == [0, 0]


def test_without_a_function_options_are_equally_likely() -> None:
    chat = ScriptedMLLM(lambda key, image, turns: "").open([WIDE])
    np.testing.assert_array_equal(chat.choose([["?"]], ("Yes", "No"))[0], [[0.5, 0.5]])


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda mllm: mllm.open([WIDE], ["a", "b"]), id="keys"),
        pytest.param(lambda mllm: mllm.open([WIDE]).answer([]), id="texts"),
        pytest.param(lambda mllm: mllm.open([WIDE]).choose([], ("Yes", "No")), id="questions"),
        pytest.param(lambda mllm: mllm.open([WIDE]).choose([["?"]], ("Yes",)), id="options"),
    ],
)
def test_counts_that_do_not_match_are_refused(act) -> None:
    with pytest.raises(ValueError, match=r"keys|texts|questions|options"):
        act(ScriptedMLLM(lambda key, image, turns: ""))


def test_a_replay_returns_the_recorded_replies(tmp_path: Path) -> None:
    path = recorded(
        tmp_path,
        {"id": "a", "replies": ["[1]", "[2]"], "asked": [[0, 1.5, 2.5, 0.75], [1, 3.0, 4.0, 0.125]], "iou": 1},
        {"id": "b", "replies": ["none"]},
    )
    mllm = ScriptedMLLM.replay(path, "qwen2-vl")
    assert mllm.dialect is dialect("qwen2-vl")
    chat = mllm.open([WIDE, TALL], ["b", "a"])
    assert chat.answer(["?", "?"]) == [Reply("none"), Reply("[1]")]
    probabilities = chat.choose([[], ["(1,2)?", "(3,4)?"]], ("Yes", "No"))
    np.testing.assert_allclose(probabilities[1], [[0.75, 0.25], [0.125, 0.875]])
    assert chat.answer(["", "and?"]) == [Reply(""), Reply("[2]")]
    reopened = mllm.open([TALL], ["a"])
    assert reopened.answer(["?"]) == [Reply("[1]")]
    np.testing.assert_allclose(reopened.choose([["(1,2)?"]], ("Yes", "No"))[0], [[0.75, 0.25]])


def test_a_missing_recording_is_a_user_error(tmp_path: Path) -> None:
    mllm = ScriptedMLLM.replay(recorded(tmp_path, {"id": "a", "replies": ["x"], "asked": []}))
    chat = mllm.open([WIDE], ["a"])
    chat.answer(["?"])
    with pytest.raises(UserError, match=r"^the recording of 'a' has no further reply$"):
        chat.answer(["?"])
    with pytest.raises(UserError, match=r"^the recording of 'a' has no further answer to a question$"):
        chat.choose([["?"]], ("Yes", "No"))
    with pytest.raises(UserError, match="two options"):
        chat.choose([["?"]], ("Yes", "No", "Maybe"))
    with pytest.raises(UserError, match=r"^nothing is recorded for 'z'$"):
        mllm.open([WIDE], ["z"]).answer(["?"])


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"replies": []}', '{"id": "a", "replies": 3}', '{"id": "a", "asked": [[]]}'],
)
def test_a_damaged_recording_is_named_by_file_and_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "a", "replies": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"predictions\.jsonl:2"):
        ScriptedMLLM.replay(path)


def test_an_unreadable_recording_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary", "."):
        with pytest.raises(UserError, match="cannot read the recording"):
            ScriptedMLLM.replay(tmp_path / name)
