"""Templates of places as searches in text. Knows nothing of scales, pictures and models.

A template is a form with slots for its numbers, as in ``<box>[[$x0,$y0,$x1,$y1]]</box>``; ``$n`` is a number that is
skipped, and ``$label`` words that are no part of the search. A search takes time in proportion to the text, whatever
the text is: quantifiers are possessive (``++``, ``*+``), and no form begins with a run of what may repeat.

    >>> search = Search.of([form("[$x0,$y0,$x1,$y1]", digits=3)])
    >>> search.find("at [ 281, 240, 863, 999 ]")
    [Found(start=3, end=25, slots=('x0', 'y0', 'x1', 'y1'), numbers=('281', '240', '863', '999'))]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

NUMBER = r"([-+]?+(?:[0-9]++(?:\.[0-9]++)?+|\.[0-9]++))"
COMMA = r"(?:\s*+[,;，、]\s*+|\s++)"
COMMA_ON_LINE = r"(?:[ \t]*+[,;，、][ \t]*+|[ \t]++)"
OPEN, CLOSE = r"[\[(（【{]\s*+", r"\s*+[\])）】}]"
BARE = re.compile(rf"(?<![\w.]){NUMBER}(?:{COMMA_ON_LINE}{NUMBER})++")


class Form(NamedTuple):
    """A regular expression and what its groups mean."""

    source: str
    slots: tuple[str, ...]


class Found(NamedTuple):
    """Numbers at ``text[start:end]``, one for each slot."""

    start: int
    end: int
    slots: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Several forms at once, the earliest in the text first, and at one place the first of the forms."""

    pattern: re.Pattern[str]
    meanings: Mapping[int, tuple[str, ...]]  # by the number of a form's last group

    @classmethod
    def of(cls, forms: Iterable[Form]) -> Search:
        meanings: dict[int, tuple[str, ...]] = {}
        sources = []
        for source, slots in forms:
            sources.append(source)
            meanings[max(meanings, default=0) + len(slots)] = slots
        return cls(re.compile("|".join(sources)), meanings)

    def find(self, text: str) -> list[Found]:
        """What the text holds, in order, none of it twice."""
        found = []
        for match in self.pattern.finditer(text):
            last = match.lastindex or 0
            slots = self.meanings[last]
            found.append(Found(match.start(), match.end(), slots, match.groups()[last - len(slots) : last]))
        return found


def form(template: str, digits: int) -> Form:
    """A template as a form that allows spaces around brackets, colons and commas.

    Args:
        template: text with slots.
        digits: the least number of digits before a number's point; what is printed with fewer is found in brackets.
    """
    core = max(template.split("$label"), key=lambda part: part.count("$"))
    number = NUMBER.replace("++", f"{{{digits},}}+", 1)
    source = ""
    for token in re.findall(r"\$\w+|\s+|[,:()\[\]{}]|[^\s$,:()\[\]{}]+", core):
        if token[0] == "$":
            source += "[0-9]++" if token == "$n" else number
        elif token.isspace():
            source += r"\s++"
        else:
            source += rf"\s*+{re.escape(token)}\s*+" if token in ",:()[]{}" else re.escape(token)
    source = source.removeprefix(r"\s*+").removesuffix(r"\s*+")
    if core.startswith("$"):
        source = r"(?<![\w.])" + source
    return Form(_guarded(source, core), tuple(slot for slot in re.findall(r"\$(\w+)", core) if slot != "n"))


def bracketed(slots: tuple[str, ...]) -> list[Form]:
    """A group of exactly as many numbers as there are slots, in any brackets."""
    group = rf"{OPEN}{COMMA.join([NUMBER] * len(slots))}{CLOSE}"
    if len(slots) == 4:
        return [Form(group, slots)]
    # A pair after a tag is taken only where a tag follows: otherwise it may be the half of a box of two pairs.
    return [Form(rf"(?<!>){group}", slots), Form(rf"(?<=>){group}(?=\s*+<)", slots)]


def bare_groups(text: str) -> list[tuple[int, int, list[str]]]:
    """Groups of four or two numbers on a line without brackets, as (start, end, numbers).

    A run of another length is none, nor is one that an unclosed bracket or quote precedes: the text was cut there.
    """
    groups = []
    for match in BARE.finditer(text):
        before = text[max(match.start() - 20, 0) : match.start()].rstrip()
        if match.end() - match.start() > 200 or before.endswith(tuple("[(（【{<\"'=")):
            continue
        numbers = re.findall(NUMBER, match[0])
        if len(numbers) in (2, 4):
            groups.append((match.start(), match.end(), numbers))
    return groups


def _guarded(source: str, core: str) -> str:
    """A point made of nothing but number tokens must not be cut out of a longer run of them: a broken box."""
    lead, *glue, trail = re.split(r"\$\w+", core)
    if len(glue) == 1 and glue[0] == trail + lead and "$x" in core:
        return rf"(?<![0-9]{re.escape(trail)}){source}(?!{re.escape(lead)})"
    return source
