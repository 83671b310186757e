"""What is asked, what is answered, and how answers are read: the only natural language in the house.

For each kind of turn a question (`ask_*`), the reply that a model should learn (`say_*`) and the reader of any reply
(`read_*`), so that training and inference share one wording. Readers take whatever a model says and never raise.
Knows nothing of models and tokens; places are written and read by the `Dialect`.

    >>> ask_prompts("the cat", 2, 1, dialect("sam4mllm"))
    'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1], then the '
    'word inside and 2 points on it, then the word outside and 1 point next to it, each as (x,y). If there is no such '
    'object, write: none'
    >>> read_prompts("[100,200,300,400] inside (150,250) (200,300) outside (310,210)", row, Frame.whole(1000, 1000))
    Reading(prompts=(Prompt(box=Box(...), points=(Point(150.0, 250.0), ...)),), readable=True)

A phrase is a user's text: its white space becomes single spaces, double quotes become single ones, angle brackets
(which may spell a model's special tokens) round ones, and what cannot be printed is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sam4mllm.dialects import Dialect, Place
from sam4mllm.geometry import Box, Frame, Point, Prompt

WORDING = 1  # raised with every change of a sentence below: an adapter answers the wording it was trained with
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
    parts = [f"its box as {box}"]
    if positive:
        parts.append(f"then the word inside and {_points(positive)} on it")
    if negative:
        parts.append(f"then the word outside and {_points(negative)} next to it")
    each = f", each as {point}" if positive or negative else ""
    return f"{_where(phrase)} For each object meant, write one line: {', '.join(parts)}{each}. {_or_none(dialect)}"


def say_prompts(prompts: Sequence[Prompt], phrase: str, dialect: Dialect, frame: Frame) -> str:
    """One line per object: its box, its points on it, its points off it; the dialect's "none" for no objects."""
    return "\n".join(_line(prompt, phrase, dialect, frame) for prompt in prompts) or dialect.none


def read_prompts(text: str, dialect: Dialect, frame: Frame) -> Reading:
    """Boxes with points, from a reply to `ask_prompts`.

    A point belongs to the last box before it and is signed by the last "inside" or "outside" between them, positive
    without one; points off the box are kept, points before any box are not. A box outweighs a "none".
    """
    said = _said(text)
    places = dialect.places(said, frame)
    sides = [(match.start(), bool(match[1])) for match in _SIDE.finditer(said)]
    prompts: list[tuple[Box, list[Point]]] = []
    positive, side = True, 0
    for place in places:
        while side < len(sides) and sides[side][0] < place.start:
            positive = sides[side][1]
            side += 1
        if isinstance(place.value, Box):
            prompts.append((place.value, []))
            positive = True
        elif prompts and not (place is places[-1] and _is_half_a_box(said, places)):
            prompts[-1][1].append(Point(place.value.x, place.value.y, positive))
    found = tuple(Prompt(box, tuple(points)) for box, points in prompts)
    return Reading(found, bool(found) or _says_none(said, dialect))


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
    return f'Where is "{_plain(phrase)}" in this picture?'


def _or_none(dialect: Dialect) -> str:
    return f"If there is no such object, write: {dialect.none}"


def _of(phrase: str, dialect: Dialect, frame: Frame, box: Box | None) -> str:
    which = f", only the one in the box {dialect.write_box(box, frame)}" if box else ""
    return f'About "{_plain(phrase)}"{which}: is'


def _points(count: int) -> str:
    return f"{count} point" if count == 1 else f"{count} points"


def _line(prompt: Prompt, phrase: str, dialect: Dialect, frame: Frame) -> str:
    words = [dialect.write_box(prompt.box, frame, _plain(phrase))]
    for side, positive in (("inside", True), ("outside", False)):
        points = [dialect.write_point(point, frame) for point in prompt.points if point.positive is positive]
        words += [side, *points] if points else []
    return " ".join(words)


def _plain(phrase: str) -> str:
    """A user's phrase as one line of printable text without double quotes and angle brackets."""
    words = " ".join(phrase.split()).translate(_QUOTES)
    return "".join(filter(str.isprintable, words))


def _said(text: str) -> str:
    """A reply without the thoughts before it; a thought that was cut leaves nothing."""
    return text.rpartition("</think>")[2].partition("<think>")[0]


def _is_half_a_box(said: str, places: Sequence[Place]) -> bool:
    """Whether the last place, a point, is a cut reply's half box: it ends the reply, first on a line after a box's.

    Some dialects write a box as two points, so that only this tells one from the other.
    """
    last = places[-1]
    start = said.rfind("\n", 0, last.start) + 1
    above = said[:start].rstrip()
    line = above.rfind("\n") + 1
    return (
        start > 0
        and not _SIDE.search(said, start, last.start)
        and any(isinstance(place.value, Box) and line <= place.start < len(above) for place in places)
        and not any(start <= place.start < last.start for place in places)
        and not re.search(r"\s\S", said[last.end :])
    )


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
