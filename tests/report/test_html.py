import pytest

from sam4mllm.report.figures import Histogram, HistogramBar
from sam4mllm.report.html import ChartGrid, FoldedList, HtmlCard, HtmlTable, PageSection, Panel, Tiles, render_page
from tests.report.parsed import Page, plain, stands_alone

EVIL = '" src="data:x"><script>'


def card(*jpegs, phrase="the cat", replies=()):
    panels = tuple(Panel(jpeg, 4, 3, "ground truth") for jpeg in jpegs)
    return HtmlCard(phrase, "a", (), panels, replies=replies)


def render(*cards):
    return render_page("t", [], [PageSection("all", "", cards)])


@pytest.mark.parametrize(
    ("cards", "tags"),
    [
        pytest.param([card(b"one", b"two")], ["img", "img"], id="each once"),
        pytest.param([card(b"one", b"two"), card(b"one")], ["image", "img", "use"], id="one of them again"),
        pytest.param([card(b"one", b"two")] * 2, ["image", "image", "use", "use"], id="all of them again"),
    ],
)
def test_each_image_is_stored_once_and_shown_wherever_it_occurs(cards, tags):
    html = render(*cards)
    assert stands_alone(html)
    page = Page(html)
    assert [tag for tag, _ in page.tags if tag in ("img", "image", "use")] == tags
    assert len(set(page.held)) == len(page.held) == 2
    assert page.pictures == [url for card in cards for url in Page(render(card)).pictures]


def test_an_image_that_is_shown_again_keeps_its_description():
    page = Page(render(card(b"one", phrase=EVIL), card(b"one", phrase="b")))
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert labels == [f"ground truth: {EVIL}", "ground truth: b"]


def test_every_text_is_escaped():
    parts = [
        Tiles([(EVIL, EVIL)]),
        FoldedList(EVIL, [EVIL]),
        HtmlTable(EVIL, [EVIL], [[EVIL]]),
        ChartGrid([Histogram(EVIL, [HistogramBar(EVIL, 1)], (EVIL, EVIL))]),
        PageSection(EVIL, EVIL, [HtmlCard(EVIL, EVIL, (EVIL,), (Panel(b"j", 1, 1, EVIL),), EVIL, 0.5, EVIL, (EVIL,))]),
    ]
    html = render_page(EVIL, [EVIL], parts)
    assert stands_alone(html)
    assert plain(html).count(EVIL) == 23  # every value above, the title twice


def test_what_scrolls_can_be_focused_and_named():
    parts = [
        FoldedList("list", ["a"]),
        HtmlTable("table", ["x"], [["1"]]),
        PageSection("s", "", [card(replies=("r",))]),
    ]
    page = Page(render_page("t", [], parts))
    focusable = {tag: attributes["aria-label"] for tag, attributes in page.tags if "tabindex" in attributes}
    assert focusable == {"ul": "list", "div": "table", "blockquote": "Reply"}


def test_tables_have_a_caption_and_headers_with_a_scope():
    page = Page(render_page("t", [], [HtmlTable("counts", ["set", "split", "n"], [["a", "b", "1"]], text_columns=2)]))
    assert page.text("caption") == ["counts"]
    assert [attributes["scope"] for tag, attributes in page.tags if tag == "th"] == ["col", "col", "col", "row"]
    assert page.text("th", "td") == ["set", "split", "n", "a", "b", "1"]


def test_links_lead_to_the_sections_that_have_cards():
    sections = [PageSection("first", "", [card()]), PageSection("empty", "", []), PageSection("last", "", [card()])]
    page = Page(render_page("t", [], sections))
    assert page.text("a") == ["Skip to the content", "first", "last"]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"].removeprefix("#") for tag, attributes in page.tags if tag == "a"]
    assert len(links) == len(set(links)) == 3
    assert set(links) <= ids


@pytest.mark.parametrize(
    ("count", "listed", "rest"),
    [(0, 0, ""), (200, 200, ""), (1201, 201, "and 1,001 more")],
    ids=["none", "all", "many"],
)
def test_a_long_list_is_cut_and_an_empty_one_is_left_out(count, listed, rest):
    html = render_page("t", [], [FoldedList("ids", [str(number) for number in range(count)])])
    items = Page(html).text("li")
    assert len(items) == listed
    assert not rest or items[-1] == rest
    assert (f"ids: {count:,}" in plain(html)) == (count > 0)
