"""The card of a trained model: writing, reading, and errors."""

import json
from pathlib import Path

import pytest

from sam4mllm.errors import UserError
from sam4mllm.language.templates import WORDING
from sam4mllm.mllm.adapter_card import CARD, SCHEMA_VERSION, AdapterCard

CARDS = AdapterCard(
    "5f2c",
    "sam4mllm",
    "owner/name",
    prompters={"ppg": {"positive": 2, "negative": 1}, "pqpp": {}},
    data={"set": "9a41"},
    versions={"sam4mllm": "0.2.0"},
)


def test_a_written_card_is_read_back(tmp_path: Path) -> None:
    assert AdapterCard.read(tmp_path) is None
    CARDS.write(tmp_path)
    assert AdapterCard.read(tmp_path) == CARDS
    record = json.loads((tmp_path / CARD).read_text())
    assert (record["schema"], record["base"], record["wording"]) == (SCHEMA_VERSION, "5f2c", WORDING)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"schema": 2}', "damaged"),
        ('{"schema": 2, "base": "a", "dialect": "b", "mood": "c"}', "damaged"),
        ('{"schema": 1, "base": "a", "dialect": "b"}', "schema 1; this version reads 2"),
    ],
)
def test_an_unreadable_card_is_a_user_error(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(content)
    with pytest.raises(UserError, match=says):
        AdapterCard.read(tmp_path)


@pytest.mark.parametrize(("wording", "warned"), [(WORDING, False), (WORDING + 1, True)])
def test_a_card_with_another_wording_logs_a_warning_that_names_the_version(wording, warned, tmp_path, caplog):
    card = AdapterCard("5f2c", "sam4mllm", wording=wording, versions={"sam4mllm": "9.9"})
    card.write(tmp_path)
    AdapterCard.read(tmp_path).warn_if_wording_differs(tmp_path)
    assert (f"was trained with wording {wording}; this version uses wording {WORDING}" in caplog.text) is warned
    assert ("use sam4mllm 9.9" in caplog.text) is warned


def test_options_are_those_of_the_named_prompter() -> None:
    assert CARDS.options("ppg") == {"positive": 2, "negative": 1}
    assert CARDS.options("pqpp") == CARDS.options("box") == {}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (AdapterCard("5f2c", "sam4mllm", versions={"trl": "9"}), True),
        (AdapterCard("77aa", "sam4mllm"), False),
        (AdapterCard("5f2c", "tiny"), False),
    ],
)
def test_cards_match_if_base_and_dialect_are_the_same(other: AdapterCard, same: bool) -> None:
    assert CARDS.of_same_base(other) is same
