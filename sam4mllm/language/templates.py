"""The text of all questions and replies, and the parsers of replies.

Each kind of turn has a question (`ask_*`), the reply to train on (`say_*`) and a parser for replies (`read_*`), so that
training and inference share one wording. The parsers accept any text and never raise. The `Dialect` writes and parses
boxes and points.

    >>> ask_prompts("the cat", 2, 1, dialect("sam4mllm"))
    'Where is "the cat" in this picture? For each object meant, write one line: its box as [x0,y0,x1,y1], then 2 '
    'points on it and 1 point next to it, each as (x,y): inside or (x,y): outside. If there is no such object, write: '
    'none'
    >>> parse_prompts("[100,200,300,400] (150,250): inside (310,210): outside", row, Frame.unscaled(1000, 1000))
    Reading(prompts=(Prompt(box=Box(...), points=(Point(150.0, 250.0), ...)),), readable=True)

A phrase is text from a user. In questions its white space becomes single spaces, double quotes become single quotes,
angle brackets (which may form a model's special tokens) become round brackets, and unprintable characters are removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.notation import Dialect

WORDING = 2  # increase it if a sentence below changes: an adapter needs the wording it was trained with
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
    """A parsed reply.

    Attributes:
        prompts: one per object; empty if the reply is a "none" or is not readable.
        readable: false if the reply holds neither a box nor a "none".
    """

    prompts: tuple[Prompt, ...]
    readable: bool


def ask_prompts(phrase: str, positive: int, negative: int, dialect: Dialect) -> str:
    """The question for the box of each object that the phrase refers to, with this many points on it and off it."""
    box, point = dialect.outline
    requests = [
        request
        for request, count in ((f"{_points(positive)} on it", positive), (f"{_points(negative)} next to it", negative))
        if count
    ]
    formats = " or ".join(f"{point}: {side}" for side, count in (("inside", positive), ("outside", negative)) if count)
    points = f", then {' and '.join(requests)}, each as {formats}" if requests else ""
    return f"{_where(phrase)} For each object meant, write one line: its box as {box}{points}. {_or_none(dialect)}"


def format_prompts(prompts: Sequence[Prompt], phrase: str, dialect: Dialect, frame: Frame) -> str:
    """The reply to `ask_prompts`: one line per object with its box and labelled points, or the dialect's "none".

    The label follows the point, so that the model classifies a given position, as for `ask_point`. If the label came
    first, the model would have to search for a position that fits it.
    """
    return "\n".join(_line(prompt, phrase, dialect, frame) for prompt in prompts) or dialect.none


def parse_prompts(text: str, dialect: Dialect, frame: Frame) -> Reading:
    """Boxes with points, parsed from a reply to `ask_prompts`.

    A point belongs to the last box before it. Its label is the first "inside" or "outside" between it and the next box
    or point. If one of these words stands between a box and its first point, the words are headings: a point's label is
    then the last word before it. Points without a label are dropped, because the word may have been cut off, and so are
    points before the first box. Points outside their box are kept. If a reply holds both boxes and a "none", the boxes
    count.
    """
    answer = _drop_thoughts(text)
    places = dialect.places(answer, frame)
    objects: list[tuple[Box, list[Point], list[list[bool]]]] = []
    for place, stop in zip(places, [*(place.start for place in places[1:]), len(answer)], strict=False):
        sides = [bool(match[1]) for match in _SIDE.finditer(answer, place.end, stop)]
        if isinstance(place.value, Box):
            objects.append((place.value, [], [sides]))
        elif objects:
            objects[-1][1].append(place.value)
            objects[-1][2].append(sides)
    prompts = tuple(Prompt(box, _label_points(points, sides)) for box, points, sides in objects)
    return Reading(prompts, bool(prompts) or _is_none(answer, dialect))


def ask_boxes(phrase: str, dialect: Dialect) -> str:
    """The question for the box of each object that the phrase refers to."""
    return (
        f"{_where(phrase)} For each object meant, write its box as {dialect.outline[0]} on a line of its own. "
        f"{_or_none(dialect)}"
    )


def format_boxes(boxes: Sequence[Box], phrase: str, dialect: Dialect, frame: Frame) -> str:
    """The reply to `ask_boxes`: one line per box, or the dialect's "none"."""
    return format_prompts([Prompt(box) for box in boxes], phrase, dialect, frame)


def parse_boxes(text: str, dialect: Dialect, frame: Frame) -> Reading:
    """Boxes, as prompts without points, parsed from a reply to `ask_boxes` or `ask_prompts`."""
    answer = _drop_thoughts(text)
    boxes = [place.value for place in dialect.places(answer, frame) if isinstance(place.value, Box)]
    return Reading(tuple(map(Prompt, boxes)), bool(boxes) or _is_none(answer, dialect))


def ask_point(point: Point, phrase: str, dialect: Dialect, frame: Frame, box: Box | None = None) -> str:
    """The question whether a point is on the object; the answer is one of `YES_NO`.

    Args:
        point: the point; its label does not influence the question.
        phrase: the referring expression.
        dialect: how the model writes boxes and points.
        frame: the frame of the image.
        box: the object's box, if the phrase refers to several objects.
    """
    written = dialect.write_point(point, frame)
    return f"{_of(phrase, dialect, frame, box)} {written} on it? Answer {YES_NO[0]} or {YES_NO[1]}."


def format_label(positive: bool) -> str:
    """The reply to `ask_point`."""
    return YES_NO[0] if positive else YES_NO[1]


def parse_label(text: str) -> bool | None:
    """True for yes, false for no: the reply's first word, or the only one of the two in it; None if neither applies."""
    answer = _drop_thoughts(text)
    labels = [bool(match[1]) for match in _YES_NO.finditer(answer)]
    if not labels:
        return None
    first = _YES_NO.match(re.sub(r"^[\W_]+", "", answer[:200]))
    return labels[0] if first or len(set(labels)) == 1 else None


def ask_points(points: Sequence[Point], phrase: str, dialect: Dialect, frame: Frame, box: Box | None = None) -> str:
    """One question about several points of one object, as in the paper; the arguments are those of `ask_point`."""
    written = " ".join(dialect.write_point(point, frame) for point in points)
    return f"{_of(phrase, dialect, frame, box)} each of these points on it? {written} Answer in order, Yes or No."


def format_labels(labels: Sequence[bool]) -> str:
    """The reply to `ask_points`."""
    return " ".join(map(format_label, labels))


def parse_labels(text: str, n: int) -> tuple[bool | None, ...]:
    """Exactly ``n`` labels parsed from a reply to `ask_points`; None for an answer that is missing or unreadable.

    If the reply has ``n`` parts (lines, comma-separated items or words), each part is one answer, so that an unreadable
    one does not shift the others. Otherwise the labels are the words "yes" and "no" in order.
    """
    answer = _drop_thoughts(text).strip()
    for separator in (r"[\r\n]+", r"[,;]", r"\s+"):
        parts = re.split(separator, answer, maxsplit=n)
        if len(parts) == n:
            return tuple(map(parse_label, parts))
    labels = [bool(match[1]) for match, _ in zip(_YES_NO.finditer(answer), range(n), strict=False)]
    return (*labels, *(None,) * (n - len(labels)))


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
    parts = [dialect.write_box(prompt.extent, frame, plain(phrase))]
    for point in prompt.points:
        parts += [f"{dialect.write_point(point, frame)}:", "inside" if point.positive else "outside"]
    return " ".join(parts)


def _label_points(points: Sequence[Point], sides: Sequence[Sequence[bool]]) -> tuple[Point, ...]:
    """A box's points with their labels; ``sides`` are the words before the first point and after each point."""
    labelled = []
    for number, point in enumerate(points, start=1):
        before = [side for gap in sides[:number] for side in gap]
        labelled += [Point(point.x, point.y, side) for side in (before[-1:] if sides[0] else sides[number][:1])]
    return tuple(labelled)


def plain(phrase: str) -> str:
    """A user's phrase as one line of printable text without double quotes and angle brackets."""
    line = " ".join(phrase.split()).translate(_QUOTES)
    return "".join(filter(str.isprintable, line))


def _drop_thoughts(text: str) -> str:
    """A reply without its ``<think>`` part; empty if the reply was cut off inside that part."""
    return text.rpartition("</think>")[2].partition("<think>")[0]


def _is_none(answer: str, dialect: Dialect) -> bool:
    """Whether the entire reply means "no object": the dialect's "none", an empty list, or a phrase of plain English."""
    if len(answer) > 300:
        return False
    bare = re.sub(r"```\w*|<[^<>]*>", " ", answer)
    if re.fullmatch(r"\s*(\[\s*\]|\{\s*\})\s*", bare):
        return True
    sentence = " ".join(re.sub(r"[^\w'/ -]", " ", bare.lower()).split()).strip("'- ")
    none = " ".join(re.sub(r"[^\w' -]", " ", dialect.none.lower()).split())
    return sentence == none or _NOTHING.fullmatch(sentence) is not None
