"""Parses report pages for tests."""

import base64
import io
import re
from html.parser import HTMLParser

import PIL.Image

REACHING = ("src", "href", "action", "data", "poster", "srcset", "formaction", "background")
SCRIPTED = {"script", "link", "iframe", "object", "embed", "base", "form"}


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text, in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        assert self.open == [], "a tag was left open"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data))

    def text(self, *tags):
        return [words for tag, words in self.words if tag in tags]

    @property
    def held(self):
        """The data URL of each stored image."""
        return [each["src" if tag == "img" else "href"] for tag, each in self.tags if tag in ("img", "image")]

    @property
    def pictures(self):
        """The data URL of each displayed image; references are resolved."""
        names = {f"#{each['id']}": each["href"] for tag, each in self.tags if tag == "image"}
        shown = [each["src" if tag == "img" else "href"] for tag, each in self.tags if tag in ("img", "image", "use")]
        return [names.get(data, data) for data in shown]


def plain(text):
    """The visible text of a page."""
    return " ".join(" ".join(words for tag, words in Page(text).words if tag != "style").split())


def stands_alone(text):
    """Asserts that a page has no scripts, fetches nothing and embeds all of its images."""
    page = Page(text)
    assert {tag for tag, _ in page.tags} & SCRIPTED == set()
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all(
            attributes[name].startswith(("data:image/jpeg;base64,", "#")) for name in REACHING if name in attributes
        )
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "default-src 'none'" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    return True


def picture_sizes(text):
    """The size of each image of a page; decodes every image."""
    sizes = []
    for source in Page(text).pictures:
        with PIL.Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
            picture.load()
            sizes.append(picture.size)
    return sizes
