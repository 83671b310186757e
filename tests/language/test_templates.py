"""Replies are parsed back in every dialect, and damaged replies never raise or give invalid values."""

import random
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import DIALECTS, dialect
from sam4mllm.language.templates import (
    WORDING,
    YES_NO,
    Reading,
    ask_boxes,
    ask_point,
    ask_points,
    ask_prompts,
    format_boxes,
    format_label,
    format_labels,
    format_prompts,
    parse_boxes,
    parse_label,
    parse_labels,
    parse_prompts,
)
from tests.language.test_dialects import FRAMES, NAMES, is_legal
from tests.paths import ROOT

THOUSAND = Frame.unscaled(1000, 1000)
PAPER = dialect("sam4mllm")
PHRASES = ("the cat", 'a "quoted" [1,2,3,4] <box>', "line\nbreak (5,6)", "none", "zwölf 猫", "")


def random_prompts(rng: np.random.Generator, frame: Frame, objects: int) -> tuple[Prompt, ...]:
    """Random prompts inside the frame's image."""
    size = np.array(frame.image)
    prompts = []
    for _ in range(objects):
        (x0, y0), (x1, y1) = (np.sort(rng.random((2, 2)), axis=0) * size).tolist()
        signs = (rng.random(rng.integers(0, 6)) < 0.5).tolist()
        positions = (rng.random((len(signs), 2)) * size).tolist()
        points = tuple(Point(x, y, sign) for (x, y), sign in zip(positions, signs, strict=True))
        prompts.append(Prompt(Box(x0, y0, x1, y1), points))
    return tuple(prompts)


def assert_close(actual: Sequence[Prompt], expected: Sequence[Prompt], cell: tuple[float, float]) -> None:
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert [point.positive for point in got.points] == [point.positive for point in want.points]
        positions = [np.array([*p.box.xyxy, *(xy for q in p.points for xy in (q.x, q.y))]) for p in (got, want)]
        assert (np.abs(positions[0] - positions[1]).reshape(-1, 2) <= np.array(cell) * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FRAMES), st.integers(0, 4), st.integers(0, 2**32), st.sampled_from(PHRASES))
def test_a_written_reply_is_parsed_within_one_cell(name, frame, objects, seed, phrase):
    row, prompts = dialect(name), random_prompts(np.random.default_rng(seed), frame, objects)
    reading = parse_prompts(format_prompts(prompts, phrase, row, frame), row, frame)
    assert reading.readable
    assert_close(reading.prompts, prompts, row.cell(frame))

    bare = [Prompt(prompt.box) for prompt in prompts]
    assert_close(parse_boxes(format_prompts(prompts, phrase, row, frame), row, frame).prompts, bare, row.cell(frame))
    reply = format_boxes([prompt.box for prompt in prompts], phrase, row, frame)
    assert_close(parse_boxes(reply, row, frame).prompts, bare, row.cell(frame))
    assert parse_boxes(reply, row, frame).readable


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_reply_adds_nothing_to_the_complete_one(name):
    row, rng = dialect(name), np.random.default_rng(3)
    for frame in FRAMES[::5]:
        prompts = random_prompts(rng, frame, 3)
        text = format_prompts(prompts, "the black cat", row, frame)
        complete = parse_prompts(text, row, frame).prompts
        for end in range(len(text)):
            cut = parse_prompts(text[:end], row, frame).prompts
            assert [prompt.box for prompt in cut] == [prompt.box for prompt in complete[: len(cut)]]
            for got, want in zip(cut, complete, strict=False):
                assert got.points == want.points[: len(got.points)]


@pytest.mark.parametrize("name", NAMES)
def test_no_object_is_written_and_parsed_in_every_dialect(name):
    row = dialect(name)
    for text in (format_prompts((), "cat", row, THOUSAND), format_boxes((), "cat", row, THOUSAND), "none"):
        for read in (parse_prompts, parse_boxes):
            assert read(text, row, THOUSAND).readable
            assert read(text, row, THOUSAND).prompts == ()


NONE = (
    *("none", "None.", " NONE\n", '"none"', "There are none.", "there is none in the picture", "nothing", "null", "[]"),
    *("No target", "no such object", "There is no cat in the image.", "There are no cats.", "not present"),
    *("The cat is not present in the picture.", "It is not visible.", "```json\n[]\n```", "<box>none</box>"),
    "<think>maybe [1,2,3,4]?</think>none",
)
UNREADABLE = (
    *("", " ", "nonetheless", "nonetheless it is there", "Sure!", "no", "No idea.", "not sure", "There is no doubt."),
    *("the cat", "[100,200,300]", "[100,050,500,7", "(100,200)", "I cannot see images", "nano", "\x00", "none " * 200),
    "<think>[100,050,500,750]",
)


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_a_none_reply_is_readable_and_has_no_prompts(text):
    for read in (parse_prompts, parse_boxes):
        for row in DIALECTS.values():
            assert (read(text, row, THOUSAND).prompts, read(text, row, THOUSAND).readable) == ((), True)


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_reply_with_neither_a_box_nor_a_none_is_unreadable(text):
    for read in (parse_prompts, parse_boxes):
        assert (read(text, PAPER, THOUSAND).prompts, read(text, PAPER, THOUSAND).readable) == ((), False)


CAT, IN, OUT = Box(100, 50, 500, 750), Point(300, 400), Point(90, 60, positive=False)
SIGNED = [
    ("one line", "[100,050,500,750] (300,400): inside (090,060): outside", [(CAT, (IN, OUT))]),
    ("outside first", "[100,050,500,750] (090,060) outside (300,400) inside", [(CAT, (OUT, IN))]),
    ("prose", "[100,050,500,750]: (300,400) is inside it, (090,060) is OUTSIDE.", [(CAT, (IN, OUT))]),
    ("headings", "[100,050,500,750] inside: (300,400) (300,400); Outside: (090,060)", [(CAT, (IN, IN, OUT))]),
    ("lists", "[100,050,500,750]\ninside:\n- (300,400)\noutside:\n- (090,060)", [(CAT, (IN, OUT))]),
    ("no word", "[100,050,500,750] (300,400)", [(CAT, ())]),
    ("a word that is missing", "[100,050,500,750] (300,400) (090,060) outside", [(CAT, (OUT,))]),
    ("two words", "[100,050,500,750] (300,400) inside, not outside", [(CAT, (IN,))]),
    ("headings do not reach the next box", "[100,050,500,750] outside (090,060)\n[100,050,500,750] (300,400)",
     [(CAT, (OUT,)), (CAT, ())]),
    ("each box in its own way", "[100,050,500,750] outside (090,060)\n[100,050,500,750] (300,400) inside",
     [(CAT, (OUT,)), (CAT, (IN,))]),
    ("a point before any box", "(300,400) inside [100,050,500,750] (300,400) inside", [(CAT, (IN,))]),
    ("a word that holds a side", "[100,050,500,750] (300,400) outsider", [(CAT, ())]),
    ("off the box", "[100,050,500,750] (900,900) inside", [(CAT, (Point(900, 900),))]),
    ("none and a box", "none [100,050,500,750]", [(CAT, ())]),
    ("fence", "```\n[100,050,500,750] (300,400) inside\n```", [(CAT, (IN,))]),
    ("half a box on a line of its own", "[100,050,500,750] (300,400) inside\n(100,050)", [(CAT, (IN,))]),
    ("thoughts", "<think>[000,000,010,010]</think>[100,050,500,750]", [(CAT, ())]),
    ("json", '[{"bbox_2d": [100, 50, 500, 750], "point_2d": [300, 400], "side": "inside"}]', [(CAT, (IN,))]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "objects"), [pytest.param(t, o, id=i) for i, t, o in SIGNED])
def test_points_belong_to_the_last_box_and_have_the_label_of_their_word(text, objects):
    reading = parse_prompts(text, PAPER, THOUSAND)
    assert [(prompt.box, prompt.points) for prompt in reading.prompts] == objects
    assert reading.readable


LABELS = {
    True: ("Yes", " yes.", "The answer is yes.", "It is on the cat, so: Yes", "<think>no?</think>Yes", "yes and no"),
    False: ("No", "**No**", "No, it is not. Yes is wrong."),
    None: ("it is yes or no", "", "maybe", "yesterday", "nothing", "[100,050,500,750]"),
}


@pytest.mark.parametrize(("label", "text"), [(label, text) for label, texts in LABELS.items() for text in texts])
def test_a_label_is_the_first_word_or_the_only_label_in_the_reply(text, label):
    assert parse_label(text) is label


@pytest.mark.parametrize("labels", [(), (True,), (False,), (True, False, False, True)])
def test_written_labels_are_parsed_back(labels):
    assert parse_labels(format_labels(labels), len(labels)) == labels
    assert all(parse_label(format_label(label)) is label for label in labels)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Yes No Yes", (True, False, True)),
        ("Yes, No, Yes.", (True, False, True)),
        ("1. Yes\n2. No\n3. Yes", (True, False, True)),
        ("(093,070): Yes, (100,200): No, (300,400): Yes", (True, False, True)),
        ("Yes, unsure, No", (True, None, False)),
        ("Yes ? No", (True, None, False)),
        ("Yes No", (True, False, None)),
        ("Yes No Yes No No", (True, False, True)),
        ("", (None, None, None)),
        ("none of them", (None, None, None)),
    ],
)
def test_the_number_of_labels_always_equals_the_number_of_points(text, labels):
    assert parse_labels(text, 3) == labels


def test_every_sentence_of_this_wording_is_pinned():
    """If a sentence changes, increase `WORDING`: adapters were trained with the old sentence."""
    assert WORDING == 2
    assert YES_NO == ("Yes", "No")
    assert ask_prompts("the cat", 2, 1, PAPER) == (
        'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1], then 2 '
        "points on it and 1 point next to it, each as (x,y): inside or (x,y): outside. If there is no such object, "
        "write: none"
    )
    assert ask_prompts("the cat", 2, 0, PAPER) == (
        'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1], then 2 '
        "points on it, each as (x,y): inside. If there is no such object, write: none"
    )
    assert ask_prompts("the cat", 0, 0, PAPER) == (
        'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1]. If there '
        "is no such object, write: none"
    )
    assert ask_boxes("the cat", PAPER) == (
        'Where is "the cat" in this picture? For each object meant, write its box as [x0,y0,x1,y1] on a line of its '
        "own. If there is no such object, write: none"
    )
    assert format_prompts([Prompt(CAT, (OUT, IN))], "cat", PAPER, THOUSAND) == (
        "[100,050,500,750] (090,060): outside (300,400): inside"
    )
    assert ask_point(IN, "cat", PAPER, THOUSAND) == 'About "cat": is (300,400) on it? Answer Yes or No.'
    assert ask_point(IN, "cats", PAPER, THOUSAND, CAT) == (
        'About "cats", only the one in the box [100,050,500,750]: is (300,400) on it? Answer Yes or No.'
    )
    assert ask_points((IN, OUT), "cat", PAPER, THOUSAND) == (
        'About "cat": is each of these points on it? (300,400) (090,060) Answer in order, Yes or No.'
    )
    assert format_labels((True, False)) == "Yes No"
    assert ask_boxes("cat", dialect("molmo2")).endswith("write: There are none.")


@pytest.mark.parametrize(
    ("phrase", "plain"),
    [
        ("the cat", "the cat"),
        (" the\r\n\tcat\u2028on  it ", "the cat on it"),
        ('the "black" cat', "the 'black' cat"),
        ("<image> <|im_end|>", "(image) (|im_end|)"),
        ("cat\x00\ud800\u200b", "cat"),
        ("猫 é", "猫 é"),
    ],
)
def test_a_phrase_in_a_question_has_no_line_breaks_double_quotes_or_tags(phrase, plain):
    for row in DIALECTS.values():
        for text in (ask_boxes(phrase, row), ask_prompts(phrase, 1, 1, row), ask_point(IN, phrase, row, THOUSAND)):
            assert f'"{plain}"' in text
            assert "\n" not in text
        assert "\n" not in format_boxes([CAT], phrase, row, THOUSAND)


def test_a_question_about_a_point_does_not_reveal_its_label():
    for row in DIALECTS.values():
        questions = [ask_point(Point(30, 40, positive), "cat", row, THOUSAND) for positive in (True, False)]
        assert questions[0] == questions[1]


PIECES = (
    *("\n", " ", ",", "[", "]", "(", ")", "{", "}", "<", ">", "none", "inside", "outside", "Yes", "No", "-1", "9" * 30),
    *(".5", "nan", "1e9", "٣", "é", "\ud800", "\x00", "\U0001f431", "```", "</think>", '"bbox_2d":', "<loc0001>"),
    *("<|box_end|>", "[1,2,3,4]", "100, 50, 500, 750"),
)


def damage(text: str, rng: random.Random) -> str:
    """A reply with one to four random edits: truncated, deleted, swapped, duplicated or inserted text."""
    for _ in range(rng.randint(1, 4)):
        a, b = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        inserted = (rng.choice(PIECES), chr(rng.randrange(0x110000)), text[a:b])
        edits = [text[:a] + piece + text[a:] for piece in inserted]
        text = rng.choice(
            [*edits, text[:b], text[:a] + text[a + 3 :], text[:a] + text[a : a + 2][::-1] + text[a + 2 :]]
        )
    return text[:800]


def check_damaged_replies(name: str, replies: int, seed: int) -> None:
    """Parse this many damaged replies with every parser in one dialect, and with `parse_prompts` in another.

    Of ten replies, six are damaged prompts, three are damaged labels, and one consists of random pieces.
    """
    rng, row = random.Random(f"{name} {seed}"), dialect(name)
    numpy_rng = np.random.default_rng((seed, NAMES.index(name)))
    written = [
        (format_prompts(random_prompts(numpy_rng, frame, i % 4), PHRASES[i % len(PHRASES)], row, frame), frame)
        for i, frame in enumerate(FRAMES * 5)
    ]
    prompts = unreadable = 0
    for i in range(replies):
        text, frame = rng.choice(written)
        if i % 10 == 0 or i % 10 > 6:
            text = " ".join(rng.choices(PIECES if i % 10 == 0 else YES_NO, k=rng.randint(0, 20)))
        text = damage(text, rng)
        reading, boxes = parse_prompts(text, row, frame), parse_boxes(text, row, frame)
        assert boxes == Reading(tuple(Prompt(prompt.box) for prompt in reading.prompts), reading.readable)
        assert reading.readable or not reading.prompts
        other = parse_prompts(text, dialect(rng.choice(NAMES)), frame)
        for prompt in (*reading.prompts, *other.prompts):
            assert is_legal(prompt.box, frame), text
            assert all(is_legal(point, frame) for point in prompt.points), text
        assert parse_label(text) in (True, False, None)
        labels = parse_labels(text, i % 7)
        assert len(labels) == i % 7
        assert set(labels) <= {True, False, None}
        prompts += len(reading.prompts)
        unreadable += not reading.readable
    assert prompts > replies / 4  # some replies are still readable,
    assert unreadable > replies / 20  # and some are not


@pytest.mark.parametrize("name", NAMES)
def test_no_reply_raises_and_all_parsed_values_are_valid(name):
    check_damaged_replies(name, 300, seed=0)


def test_a_hundred_thousand_damaged_replies_are_parsed_too():
    """Runs in a process without type checks, which would take ten times as long as the parsers."""
    replies = -(-100_000 // len(NAMES))
    code = (
        "from tests.language.test_templates import *\n"
        f"for name in NAMES: check_damaged_replies(name, {replies}, seed=1)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
