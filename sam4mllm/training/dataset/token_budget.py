"""How many tokens conversations take, told before any of them is made: a fixed frame for each way, and the phrase.

The frame is measured on a few made-up conversations that `turns` writes, with the longest places of the dialect, so
that no wording is known here. What a row really takes is counted when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64

from sam4mllm.data.conversations import Talk
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.messages import Turn
from sam4mllm.language.notation import Dialect
from sam4mllm.training.dataset.corpus import Corpus
from sam4mllm.training.dataset.examples import said
from sam4mllm.training.dataset.mixture import KINDS, TALK, Rows

MARK = "zq"  # a phrase that no wording holds
PLACES = 200  # places that are tried for the longest one


@runtime_checkable
class Lengths(Protocol):
    """How long texts are for a model."""

    def texts(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text by itself."""
        ...

    def conversation(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """The tokens of a conversation from the user's first word on, and how many of them are learned from."""
        ...

    def mark_in(self, text: str) -> str | None:
        """The first mark in a text that the model would take for one of its own; None where there is none."""
        ...

    def pictures(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """The tokens of all that comes before the user's first word, for a picture of each (width, height)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What each item of a corpus takes in each way, in tokens of a conversation.

    Attributes:
        fixed: at most, but for the points that it is asked about.
        each: what each point more takes, for all its objects; 0 in ways that ask about none.
        capacity: how much may be in one conversation.
    """

    fixed: Int64[np.ndarray, "kinds items"]
    each: Int64[np.ndarray, "kinds items"]
    capacity: int

    @property
    def too_long(self) -> Bool[np.ndarray, "kinds items"]:
        """What never fits: with one point it is over the budget by itself."""
        barred: Bool[np.ndarray, "kinds items"] = self.fixed + self.each > self.capacity
        return barred


def free(corpus: Corpus) -> Costs:
    """Nothing takes anything: the costs where no budget is kept."""
    none = np.zeros(corpus.uses.shape, dtype=np.int64)
    asks = np.array([kind in ("pqpp", "listed") for kind in KINDS])
    objects = np.array([not isinstance(item, Talk) and bool(item.masks) for item in corpus.items], dtype=bool)
    return Costs(none, (asks[:, None] & objects).astype(np.int64), np.iinfo(np.int64).max // 2)


def costs(corpus: Corpus, rows: Rows, lengths: Lengths, dialect: Dialect, frames: Sequence[Frame]) -> Costs:
    """What each item takes at most, as far as can be told before it is written.

    Args:
        corpus: the items.
        rows: what is asked of them.
        lengths: of the model that will learn from them.
        dialect: of the model.
        frames: how it sees the widest picture and the highest, whose places may be the longest.
    """
    talks = np.array([isinstance(item, Talk) for item in corpus.items], dtype=bool)
    between = _between(lengths)
    fixed = np.zeros(corpus.uses.shape, dtype=np.int64)
    each = np.zeros_like(fixed)
    fixed[KINDS.index(TALK), talks] = _of_talks([item for item in corpus.items if isinstance(item, Talk)], lengths)
    samples = [item for item in corpus.items if not isinstance(item, Talk)]
    objects = np.array([len(sample.masks) for sample in samples], dtype=np.int64)
    spelled = lengths.texts([f'"{phrase}"' for phrase in [MARK, *(sample.phrase for sample in samples)]])
    longer = np.array(spelled[1:], dtype=np.int64) - spelled[0]
    longest = _longest(lengths, dialect, frames)
    for number, kind in enumerate(KINDS[:-1]):
        if samples and corpus.uses[number].any():
            probe = _probe(kind, rows, lengths, dialect, *longest)
            base, more, phrases, more_phrases = _by_objects(probe, int(objects.max()))[:, objects]
            told = _told(corpus, rows) if kind == "ppg" else np.zeros(len(samples), dtype=np.int64)
            fixed[number, ~talks] = base + between + phrases * longer + told * more
            each[number, ~talks] = more + more_phrases * longer if kind != "ppg" else 0
    return Costs(fixed, each, rows.tokens + between)


def _between(lengths: Lengths) -> int:
    """What a conversation takes where another one comes before it, more than alone."""
    turns = [Turn("user", MARK), Turn("assistant", MARK)]
    return lengths.conversation(turns * 2)[0] - 2 * lengths.conversation(turns)[0]


def _told(corpus: Corpus, rows: Rows) -> Int64[np.ndarray, "samples"]:
    """How many points PPG says of an object of each sample at most: those of the fullest prompt that is kept of it, or
    as many as are drawn where a source has no targets."""
    found = []
    for number, item in enumerate(corpus.items):
        if isinstance(item, Talk):
            continue
        targets = corpus.part(number).targets
        if targets is None:
            found.append(rows.positive + rows.negative)
            continue
        kept = [targets.get((item.id, index)) for index in range(len(item.masks))]
        found.append(max((len(prompt.points) for one in kept if one for prompt in one.prompts), default=0))
    return np.array(found, dtype=np.int64)


def _of_talks(talks: Sequence[Talk], lengths: Lengths) -> Int64[np.ndarray, "talks"]:
    """The tokens of their texts, and what a template writes around each pair of turns."""
    if not talks:
        return np.zeros(0, dtype=np.int64)
    turns = [Turn("user", MARK), Turn("assistant", MARK)]
    around = lengths.conversation(turns * 2)[0] - lengths.conversation(turns)[0] - 2 * lengths.texts([MARK])[0]
    sizes = np.array(lengths.texts([turn.text for talk in talks for turn in talk.turns]), dtype=np.int64)
    counts = np.array([len(talk.turns) for talk in talks])
    found: Int64[np.ndarray, "talks"] = np.add.reduceat(sizes, np.cumsum(counts) - counts) + counts // 2 * around
    return found


def _by_objects(probe: Callable[[int, int], tuple[int, int]], most: int) -> Int64[np.ndarray, "4 objects"]:
    """By the number of objects: tokens without points and for each, mentions of the phrase without points and for each.

    Measured for up to three objects, for one alone need not be told from others; from there on each adds as much.
    """
    found = []
    for objects in range(4):
        one, two = np.array(probe(objects, 1)), np.array(probe(objects, 2))
        found.append([*(2 * one - two), *(two - one)])
    for _ in range(most - 3):
        found.append([2 * last - previous for last, previous in zip(found[-1], found[-2], strict=True)])
    return np.array(found, dtype=np.int64).T[[0, 2, 1, 3]]


def _probe(
    kind: str, rows: Rows, lengths: Lengths, dialect: Dialect, frame: Frame, box: Box, point: Point
) -> Callable[[int, int], tuple[int, int]]:
    """What a made-up expression takes by its objects and the points of each: tokens, and mentions of its phrase."""

    def measured(objects: int, points: int) -> tuple[int, int]:
        found = []
        for positive in (True, False):  # one of yes and no, or of inside and outside, may be longer
            prompts = [Prompt(box, (Point(point.x, point.y, positive),) * points)] * objects
            turns = said(kind, MARK, prompts, rows, dialect, frame, np.random.default_rng(0))
            tokens, _ = lengths.conversation(turns)
            found.append((tokens, sum(turn.text.count(MARK) for turn in turns)))
        return max(found)

    return measured


def _longest(lengths: Lengths, dialect: Dialect, frames: Sequence[Frame]) -> tuple[Frame, Box, Point]:
    """The frame whose places take most tokens, and a box and a point in it that do, of many."""
    rng, found = np.random.default_rng(0), list[tuple[int, Frame, Box, Point]]()
    for frame in frames:
        corners = (np.sort(rng.random((PLACES, 2, 2)), axis=1) * np.array(frame.image)).tolist()
        boxes, points = [Box(*low, *high) for low, high in corners], [Point(*low) for low, _ in corners]
        by_box = lengths.texts([dialect.write_box(box, frame) for box in boxes])
        by_point = lengths.texts([dialect.write_point(point, frame) for point in points])
        box, point = int(np.argmax(by_box)), int(np.argmax(by_point))
        found.append((by_box[box] + by_point[point], frame, boxes[box], points[point]))
    _, frame, box_found, point_found = max(found, key=lambda each: each[0])
    return frame, box_found, point_found
