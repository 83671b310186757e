"""What is asked, what is answered, and how answers are read: the only natural language in the house.

For each kind of turn a question (`ask_*`), the reply that a model should learn (`say_*`) and the reader of any reply
(`read_*`), so that training and inference share one wording. Readers take whatever a model says and never raise.
Knows nothing of models and tokens; places are written and read by the `Dialect`.

    >>> ask_prompts("the cat", 2, 1, dialect("sam4mllm"))
    'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1], then 2 '
    'points on it and 1 point next to it, each as (x,y): inside or (x,y): outside. If there is no such object, write: '
    'none'
    >>> read_prompts("[100,200,300,400] (150,250): inside (310,210): outside", row, Frame.whole(1000, 1000))
    Reading(prompts=(Prompt(box=Box(...), points=(Point(150.0, 250.0), ...)),), readable=True)

A phrase is a user's text: its white space becomes single spaces, double quotes become single ones, angle brackets
(which may spell a model's special tokens) round ones, and what cannot be printed is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.dialects import Dialect

WORDING = 2  # raised with every change of a sentence below: an adapter answers the wording it was trained with
YES_NO = ("Yes", "No")

_QUOTES = str.maketrans({'"': "'", "“": "'", "”": "'", "„": "'", "«": "'", "»": "'", "<": "(", ">": ")"})
_SIDE = re.compile(r"\b(?:(inside)|outside)\b", re.IGNORECASE)
_YES_NO = re.compile(r"\b(?:(yes)|no)\b", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:there (?:is|are) )?(?:none|nothing)(?: (?:there|here|found|visible|present|of|in|that) ?[\w' -]{0,60})?"
    r"|there (?:is|are) no (?!doubt|question)[\w' -]{1,80}"
    r"|no (?:such )?(?:target|object|match|instance|detection)(?:e?s)?(?: [\w' -]{1,60})?"
    r"|(?:(?:it|this|that|the [\w' -]{1,60}) (?:is|are) )?"
    r"not (?:present|visible|shown|there|found|in the (?:image|picture|photo))(?: [\w' -]{1,40})?"
    r"|empty|null|n/a"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    Attributes:
        prompts: one per object; empty means "nothing there" where ``readable``.
        readable: false where the reply holds neither a box nor a "none".
    """

    prompts: tuple[Prompt, ...]
    readable: bool


def ask_prompts(phrase: str, positive: int, negative: int, dialect: Dialect) -> str:
    """Ask for the box of each object that the phrase means, and so many points on it and off it."""
    box, point = dialect.outline
    asked = [
        words
        for words, count in ((f"{_points(positive)} on it", positive), (f"{_points(negative)} next to it", negative))
        if count
    ]
    each = " or ".join(f"{point}: {side}" for side, count in (("inside", positive), ("outside", negative)) if count)
    then = f", then {' and '.join(asked)}, each as {each}" if asked else ""
    return f"{_where(phrase)} For each object meant, write one line: its box as {box}{then}. {_or_none(dialect)}"


def say_prompts(prompts: Sequence[Prompt], phrase: str, dialect: Dialect, frame: Frame) -> str:
    """One line per object: its box, then each point with its side; the dialect's "none" for no objects.

    The side follows the place: so it answers what lies there, as `ask_point` asks, where a place that followed its
    side would have to be searched for.
    """
    return "\n".join(_line(prompt, phrase, dialect, frame) for prompt in prompts) or dialect.none


def read_prompts(text: str, dialect: Dialect, frame: Frame) -> Reading:
    """Boxes with points, from a reply to `ask_prompts`.

    A point belongs to the last box before it. Its side is the first "inside" or "outside" between it and the next
    place or, where such a word stands between its box and the box's first point, the last one before it. Points
    without a side are dropped, as the word may have been cut off, and so are points before any box; points off the box
    are kept. A box outweighs a "none".
    """
    said = _said(text)
    places = dialect.places(said, frame)
    objects: list[tuple[Box, list[Point], list[list[bool]]]] = []
    for place, stop in zip(places, [*(place.start for place in places[1:]), len(said)], strict=False):
        sides = [bool(match[1]) for match in _SIDE.finditer(said, place.end, stop)]
        if isinstance(place.value, Box):
            objects.append((place.value, [], [sides]))
        elif objects:
            objects[-1][1].append(place.value)
            objects[-1][2].append(sides)
    prompts = tuple(Prompt(box, _signed(points, named)) for box, points, named in objects)
    return Reading(prompts, bool(prompts) or _says_none(said, dialect))


def ask_boxes(phrase: str, dialect: Dialect) -> str:
    """Ask for the box of each object that the phrase means."""
    return (
        f"{_where(phrase)} For each object meant, write its box as {dialect.outline[0]} on a line of its own. "
        f"{_or_none(dialect)}"
    )


def say_boxes(boxes: Sequence[Box], phrase: str, dialect: Dialect, frame: Frame) -> str:
    """One line per box; the dialect's "none" for no boxes."""
    return say_prompts([Prompt(box) for box in boxes], phrase, dialect, frame)


def read_boxes(text: str, dialect: Dialect, frame: Frame) -> Reading:
    """Boxes alone, as prompts without points, from a reply to `ask_boxes` or `ask_prompts`."""
    said = _said(text)
    boxes = [place.value for place in dialect.places(said, frame) if isinstance(place.value, Box)]
    return Reading(tuple(map(Prompt, boxes)), bool(boxes) or _says_none(said, dialect))


def ask_point(point: Point, phrase: str, dialect: Dialect, frame: Frame, box: Box | None = None) -> str:
    """Ask whether one point is on the object, to be answered by `YES_NO`.

    Args:
        point: where; its sign is not told.
        phrase: the referring expression.
        box: which object is asked about, where the phrase means several.
    """
    written = dialect.write_point(point, frame)
    return f"{_of(phrase, dialect, frame, box)} {written} on it? Answer {YES_NO[0]} or {YES_NO[1]}."


def say_label(positive: bool) -> str:
    """The answer to `ask_point`."""
    return YES_NO[0] if positive else YES_NO[1]


def read_label(text: str) -> bool | None:
    """Yes or no: the word that the reply begins with, or the only one of the two that it holds; None otherwise."""
    said = _said(text)
    words = [bool(match[1]) for match in _YES_NO.finditer(said)]
    if not words:
        return None
    first = _YES_NO.match(re.sub(r"^[\W_]+", "", said[:200]))
    return words[0] if first or len(set(words)) == 1 else None


def ask_points(points: Sequence[Point], phrase: str, dialect: Dialect, frame: Frame, box: Box | None = None) -> str:
    """Ask about several points of one object in one turn, as the paper does; ``box`` as in `ask_point`."""
    written = " ".join(dialect.write_point(point, frame) for point in points)
    return f"{_of(phrase, dialect, frame, box)} each of these points on it? {written} Answer in order, Yes or No."


def say_labels(labels: Sequence[bool]) -> str:
    """The answer to `ask_points`."""
    return " ".join(map(say_label, labels))


def read_labels(text: str, n: int) -> tuple[bool | None, ...]:
    """Exactly ``n`` answers from a reply to `ask_points`, None for those that are missing or say neither.

    Where the reply has ``n`` parts (by line, comma or word), each part is one answer, so that an unreadable one does
    not shift the rest; otherwise its yeses and noes are counted off in order.
    """
    said = _said(text).strip()
    for separator in (r"[\r\n]+", r"[,;]", r"\s+"):
        parts = re.split(separator, said, maxsplit=n)
        if len(parts) == n:
            return tuple(map(read_label, parts))
    words = [bool(match[1]) for match, _ in zip(_YES_NO.finditer(said), range(n), strict=False)]
    return (*words, *(None,) * (n - len(words)))


def _where(phrase: str) -> str:
    return f'Where is "{plain(phrase)}" in this picture?'


def _or_none(dialect: Dialect) -> str:
    return f"If there is no such object, write: {dialect.none}"


def _of(phrase: str, dialect: Dialect, frame: Frame, box: Box | None) -> str:
    which = f", only the one in the box {dialect.write_box(box, frame)}" if box else ""
    return f'About "{plain(phrase)}"{which}: is'


def _points(count: int) -> str:
    return f"{count} point" if count == 1 else f"{count} points"


def _line(prompt: Prompt, phrase: str, dialect: Dialect, frame: Frame) -> str:
    words = [dialect.write_box(prompt.box, frame, plain(phrase))]
    for point in prompt.points:
        words += [f"{dialect.write_point(point, frame)}:", "inside" if point.positive else "outside"]
    return " ".join(words)


def _signed(points: Sequence[Point], sides: Sequence[Sequence[bool]]) -> tuple[Point, ...]:
    """A box's points with their signs, by the sides named before the first of them and after each."""
    signed = []
    for number, point in enumerate(points, start=1):
        before = [side for each in sides[:number] for side in each]
        signed += [Point(point.x, point.y, side) for side in (before[-1:] if sides[0] else sides[number][:1])]
    return tuple(signed)


def plain(phrase: str) -> str:
    """A user's phrase as one line of printable text without double quotes and angle brackets."""
    words = " ".join(phrase.split()).translate(_QUOTES)
    return "".join(filter(str.isprintable, words))


def _said(text: str) -> str:
    """A reply without the thoughts before it; a thought that was cut leaves nothing."""
    return text.rpartition("</think>")[2].partition("<think>")[0]


def _says_none(said: str, dialect: Dialect) -> bool:
    """Whether a whole reply is a "none": the dialect's own, an empty list, or a plain English one."""
    if len(said) > 300:
        return False
    bare = re.sub(r"```\w*|<[^<>]*>", " ", said)
    if re.fullmatch(r"\s*(\[\s*\]|\{\s*\})\s*", bare):
        return True
    words = " ".join(re.sub(r"[^\w'/ -]", " ", bare.lower()).split()).strip("'- ")
    own = " ".join(re.sub(r"[^\w' -]", " ", dialect.none.lower()).split())
    return words == own or _NOTHING.fullmatch(words) is not None
