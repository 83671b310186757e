import pytest

from sam4mllm.report.html import Card, Panel, Section, page, section
from tests.report.parsed import Page, stands_alone

EVIL = '" src="data:x"><script>'


def card(*pictures, phrase="the cat"):
    return Card(phrase, "a", (), tuple(Panel(picture, 4, 3, "truth") for picture in pictures))


def shown(*cards):
    return page("t", [], [section(Section("all", "", cards))])


@pytest.mark.parametrize(
    ("cards", "tags"),
    [
        pytest.param([card(b"one", b"two")], ["img", "img"], id="each once"),
        pytest.param([card(b"one", b"two"), card(b"one")], ["image", "img", "use"], id="one of them again"),
        pytest.param([card(b"one", b"two")] * 2, ["image", "image", "use", "use"], id="all of them again"),
    ],
)
def test_each_picture_is_held_once_and_shown_wherever_it_stands(cards, tags):
    text = shown(*cards)
    assert stands_alone(text)
    found = Page(text)
    assert [tag for tag, _ in found.tags if tag in ("img", "image", "use")] == tags
    assert len(set(found.held)) == len(found.held) == 2
    assert found.pictures == [data for one in cards for data in Page(shown(one)).pictures]


def test_words_go_with_a_picture_that_is_shown_again():
    found = Page(shown(card(b"one", phrase=EVIL), card(b"one", phrase="b")))
    assert [each["aria-label"] for tag, each in found.tags if tag == "svg"] == [f"truth: {EVIL}", "truth: b"]
