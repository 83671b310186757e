"""Compiles templates of boxes and points to regular expressions, and searches text for them.

A template has slots for its numbers, as in ``<box>[[$x0,$y0,$x1,$y1]]</box>``. ``$n`` is a number to skip, and
``$label`` is text that the search ignores. A search takes linear time on any text: all quantifiers are possessive
(``++``, ``*+``), and no expression begins with a repeated group.

    >>> search = PlaceSearch.from_patterns([place_pattern("[$x0,$y0,$x1,$y1]", digits=3)])
    >>> search.find("at [ 281, 240, 863, 999 ]")
    [PlaceMatch(start=3, end=25, slots=('x0', 'y0', 'x1', 'y1'), numbers=('281', '240', '863', '999'))]
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
BARE_GROUP = re.compile(rf"(?<![\w.]){NUMBER}(?:{COMMA_ON_LINE}{NUMBER})++")


class PlacePattern(NamedTuple):
    """A regular expression with one group per slot."""

    source: str
    slots: tuple[str, ...]


class PlaceMatch(NamedTuple):
    """The numbers in ``text[start:end]``, one per slot."""

    start: int
    end: int
    slots: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlaceSearch:
    """Searches for several patterns at once. If several match at the same position, the first of them wins."""

    pattern: re.Pattern[str]
    # the number of a pattern's last group in the joined regex -> the pattern's slots
    slots_by_group: Mapping[int, tuple[str, ...]]

    @classmethod
    def from_patterns(cls, patterns: Iterable[PlacePattern]) -> PlaceSearch:
        slots_by_group: dict[int, tuple[str, ...]] = {}
        sources = []
        for source, slots in patterns:
            sources.append(source)
            slots_by_group[max(slots_by_group, default=0) + len(slots)] = slots
        return cls(re.compile("|".join(sources)), slots_by_group)

    def find(self, text: str) -> list[PlaceMatch]:
        """All matches in the text, in order and without overlaps."""
        matches = []
        for match in self.pattern.finditer(text):
            last = match.lastindex or 0
            slots = self.slots_by_group[last]
            matches.append(PlaceMatch(match.start(), match.end(), slots, match.groups()[last - len(slots) : last]))
        return matches


def place_pattern(template: str, digits: int) -> PlacePattern:
    """The template as a pattern that also matches with spaces around brackets, colons and commas.

    Args:
        template: text with slots.
        digits: minimum number of digits before the decimal point. Numbers with fewer digits match only
            `bracket_patterns`.
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
    return PlacePattern(
        _add_run_guard(source, core), tuple(slot for slot in re.findall(r"\$(\w+)", core) if slot != "n")
    )


def bracket_patterns(slots: tuple[str, ...]) -> list[PlacePattern]:
    """Patterns for a group of exactly as many numbers as there are slots, in any kind of brackets."""
    group = rf"{OPEN}{COMMA.join([NUMBER] * len(slots))}{CLOSE}"
    if len(slots) == 4:
        return [PlacePattern(group, slots)]
    # A pair after a tag counts only if a tag follows too: otherwise it may be the first corner of a box that is
    # written as two pairs.
    return [PlacePattern(rf"(?<!>){group}", slots), PlacePattern(rf"(?<=>){group}(?=\s*+<)", slots)]


def find_bare_groups(text: str) -> list[tuple[int, int, list[str]]]:
    """Groups of four or two numbers on a line without brackets, as (start, end, numbers).

    Groups of another length are skipped, and so are groups after an unclosed bracket or quote: the reply was truncated.
    """
    groups = []
    for match in BARE_GROUP.finditer(text):
        before = text[max(match.start() - 20, 0) : match.start()].rstrip()
        if match.end() - match.start() > 200 or before.endswith(tuple("[(（【{<\"'=")):
            continue
        numbers = re.findall(NUMBER, match[0])
        if len(numbers) in (2, 4):
            groups.append((match.start(), match.end(), numbers))
    return groups


def _add_run_guard(source: str, core: str) -> str:
    """Adds lookarounds, so that two coordinate tokens of a longer run (a malformed box) do not match as a point."""
    prefix, *separators, suffix = re.split(r"\$\w+", core)
    if len(separators) == 1 and separators[0] == suffix + prefix and "$x" in core:
        return rf"(?<![0-9]{re.escape(suffix)}){source}(?!{re.escape(prefix)})"
    return source
