"""Upper bounds on the tokens of each item, known before any row is written, so that rows can be packed into a budget.

Each phrase is tokenised once. The wording around it is tokenised once for each number of objects and points, with a
placeholder for the phrase and with the dialect's longest box and point. A row's exact tokens are counted when it is
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import itemgetter
from typing import Protocol, runtime_checkable

import numpy as np

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Box, Frame, Point, Prompt
from sam4mllm.language.messages import Turn
from sam4mllm.language.notation import Dialect
from sam4mllm.training.dataset.corpus import Corpus, Targets
from sam4mllm.training.dataset.examples import make_turns
from sam4mllm.training.dataset.mixture import KINDS, POINT_QUESTIONS, TALK, Rows
from sam4mllm.training.dataset.sampler import Costs

PLACEHOLDER = "zq"  # a phrase that no wording contains
PLACES = 200  # random boxes and points among which the longest is looked for


@runtime_checkable
class Lengths(Protocol):
    """Counts tokens for one model."""

    def texts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text."""
        ...

    def conversation(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """The tokens of a conversation from the start of the first user text on, and how many are supervised."""
        ...

    def find_special_token(self, text: str) -> str | None:
        """The first special token that the model would read in a text; None if there is none."""
        ...

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """The tokens before the first user text, for an image of each (width, height)."""
        ...


def count_costs(corpus: Corpus, rows: Rows, lengths: Lengths, dialect: Dialect, frames: Sequence[Frame]) -> Costs:
    """The costs of all items under the budget of ``rows``.

    Args:
        corpus: the items.
        rows: the settings of the conversations' questions.
        lengths: counts the tokens of the model that is trained.
        dialect: the notation of that model.
        frames: the frames of the widest and the highest image, which may contain the longest coordinates.
    """
    turns = [Turn("user", PLACEHOLDER), Turn("assistant", PLACEHOLDER)]
    one_pair, two_pairs = (lengths.conversation(turns * pairs)[0] for pairs in (1, 2))
    appending = two_pairs - 2 * one_pair  # the extra cost of a conversation that follows another one
    texts = [PLACEHOLDER, _quote(PLACEHOLDER), *(text for item in corpus.items for text in _texts_of(item))]
    tokens = dict(zip(texts, lengths.texts(texts), strict=True))
    around = two_pairs - one_pair - 2 * tokens[PLACEHOLDER]  # what the chat template adds to a pair of turns
    frame, box, point = _longest_places(lengths, dialect, frames)

    @cache
    def count_wording(kind: str, objects: int, points: int) -> tuple[int, int]:
        """The tokens of one expression's turns, with ``points`` per object, and how often they quote the phrase."""
        counts = []
        for positive in (True, False):  # "yes" and "no", or "inside" and "outside", may differ in length
            prompts = [Prompt(box, (Point(point.x, point.y, positive),) * points)] * objects
            turns = make_turns(kind, PLACEHOLDER, prompts, rows, dialect, frame, np.random.default_rng(0))
            counts.append((lengths.conversation(turns)[0], sum(turn.text.count(PLACEHOLDER) for turn in turns)))
        return max(counts)

    kinds = [(row, kind) for row, kind in enumerate(KINDS) if kind != TALK and corpus.uses[row].any()]
    fixed, per_point = (np.zeros(corpus.uses.shape, dtype=np.int64) for _ in range(2))
    for number, item in enumerate(corpus.items):
        if isinstance(item, Conversation):
            total = sum(tokens[turn.text] for turn in item.turns) + len(item.turns) // 2 * around
            fixed[KINDS.index(TALK), number] = total
            continue
        longer = tokens[_quote(item.phrase)] - tokens[_quote(PLACEHOLDER)]
        listed = _most_points(item, corpus.part(number).targets, rows)
        for row, kind in kinds:
            numbers = (1, 2) if kind in POINT_QUESTIONS else (listed, listed)
            wordings = [count_wording(kind, len(item.masks), points) for points in numbers]
            with_one, with_two = (count + mentions * longer for count, mentions in wordings)
            fixed[row, number], per_point[row, number] = 2 * with_one - with_two + appending, with_two - with_one
    return Costs(fixed, per_point, rows.tokens + appending)


def _texts_of(item: Sample | Conversation) -> list[str]:
    return [turn.text for turn in item.turns] if isinstance(item, Conversation) else [_quote(item.phrase)]


def _quote(phrase: str) -> str:
    """A phrase as the wordings contain it, since its tokens depend on what is next to it."""
    return f'"{phrase}"'


def _most_points(sample: Sample, targets: Targets | None, rows: Rows) -> int:
    """The most points per object in a PPG reply: those of the sample's targets, or as many as requested."""
    if targets is None:
        return rows.positive + rows.negative
    mask_targets = [targets.get((sample.id, index)) for index in range(len(sample.masks))]
    return max((len(prompt.points) for target in mask_targets if target for prompt in target.prompts), default=0)


def _longest_places(lengths: Lengths, dialect: Dialect, frames: Sequence[Frame]) -> tuple[Frame, Box, Point]:
    """The box and the point with the most tokens, of many random ones in one frame, and that frame."""
    rng, longest = np.random.default_rng(0), list[tuple[int, Frame, Box, Point]]()
    for frame in frames:
        corners = (np.sort(rng.random((PLACES, 2, 2)), axis=1) * np.array(frame.image)).tolist()
        boxes, points = [Box(*low, *high) for low, high in corners], [Point(*low) for low, _ in corners]
        by_box = lengths.texts([dialect.write_box(box, frame) for box in boxes])
        by_point = lengths.texts([dialect.write_point(point, frame) for point in points])
        box, point = boxes[int(np.argmax(by_box))], points[int(np.argmax(by_point))]
        longest.append((max(by_box) + max(by_point), frame, box, point))
    return max(longest, key=itemgetter(0))[1:]
