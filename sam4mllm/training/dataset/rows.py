"""Samples and talks as conversations to learn from: row 0, 1, 2 ... of a training run, the same for the same number.

An epoch goes through each source as often as its weight says. Several expressions of one picture are one conversation,
all of them asked in one way, drawn by the mixture's weights, up to a budget of tokens. What cannot be used is counted.
Knows nothing of training.

    >>> conversations = Conversations(corpus(read_sources(recipe.data), rows), rows, mllm, mllm.lengths)
    >>> conversations.row(0)[1]
    [Turn(role='user', text='Where is "the cat" ...'), Turn(role='assistant', text='[100,200,300,400] (150,250): ...')]
"""

from __future__ import annotations

import logging
from bisect import bisect
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from operator import attrgetter

import numpy as np
from jaxtyping import Bool

from sam4mllm.data.conversations import Talk
from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.messages import Turn
from sam4mllm.language.templates import plain
from sam4mllm.mllm import MLLM, Conversation
from sam4mllm.training.dataset.corpus import Corpus, Part
from sam4mllm.training.dataset.examples import prompts_of, said
from sam4mllm.training.dataset.mixture import KINDS, TALK, Rows
from sam4mllm.training.dataset.sampler import Deck, Epoch, epoch_of
from sam4mllm.training.dataset.token_budget import Lengths, count_costs, free_costs

log = logging.getLogger(__name__)
PLACES = 5  # the stream of random numbers of a row's places; those of its plan are in `epochs`


@dataclass(frozen=True, slots=True)
class Plan:
    """What a row is about.

    Attributes:
        part: the source.
        kind: one of `KINDS`.
        items: samples of one picture, or talks about it.
        points: about how many points of each object each of them is asked.
        tokens: what it takes at most, as planned; 0 where tokens are not counted.
    """

    part: Part
    kind: str
    items: tuple[Sample | Talk, ...]
    points: tuple[int, ...]
    tokens: int


class Conversations:
    """The rows that a corpus gives.

    Args:
        corpus: what is taught.
        rows: what the rows hold.
        mllm: who is taught: its dialect, and how it sees pictures.
        lengths: of texts in its tokens; without them conversations have no budget of tokens.

    Attributes:
        corpus: without what never fits the budget, which is counted there.
        over: the tokens of each row that was made and went over the budget, by its number.

    Raises:
        UserError: where nothing that can be used in some way fits the budget.
    """

    def __init__(self, corpus: Corpus, rows: Rows, mllm: MLLM, lengths: Lengths | None = None) -> None:
        self._rows, self._mllm, self._lengths = rows, mllm, lengths
        self._frame = lru_cache(maxsize=4096)(partial(_frame_of, mllm))
        if lengths is None:
            costs = free_costs(corpus)
        else:
            for mark, barred in _marked(corpus, lengths).items():
                corpus = corpus.without(barred, f"it holds {mark}, by which the model's input is marked")
            widest, highest = (max(corpus.items, key=attrgetter(side)) for side in ("width", "height"))
            frames = [self._frame(item.width, item.height) for item in (widest, highest)]
            costs = count_costs(corpus, rows, lengths, mllm.dialect, frames)
        self.corpus = corpus.without(costs.too_long, f"longer than {rows.tokens} tokens")
        self.over: dict[int, int] = {}
        weights = {**asdict(rows.mixture), TALK: 1.0}
        deck = Deck(
            self.corpus.source,
            self.corpus.picture,
            self.corpus.uses,
            np.array([part.weight for part in corpus.parts]),
            np.array([weights[kind] for kind in KINDS]),
            costs.fixed,
            costs.per_point,
            costs.capacity,
            rows.per_image,
            rows.asked,
            rows.seed,
        )
        self.epoch = lru_cache(maxsize=64)(partial(epoch_of, deck))
        self._between = costs.capacity - rows.tokens if lengths else 0
        self._starts = [0]

    def __len__(self) -> int:
        """How many rows the first epoch has; the others have about as many."""
        return len(self.epoch(0))

    def rows_in(self, epochs: float) -> int:
        """How many rows the first so many epochs have; a part of an epoch has that part of its rows."""
        whole = int(epochs)
        part = round((epochs - whole) * len(self.epoch(whole))) if epochs > whole else 0
        return sum(len(self.epoch(number)) for number in range(whole)) + part

    def plan(self, index: int) -> Plan:
        """What row ``index`` is about; no picture is read."""
        epoch, at = self._place(index)
        members = slice(epoch.starts[at], epoch.starts[at + 1])
        numbers = epoch.items[members].tolist()
        return Plan(
            self.corpus.part(numbers[0]),
            KINDS[epoch.kind[at]],
            tuple(self.corpus.items[number] for number in numbers),
            tuple(epoch.points[members].tolist()),
            int(epoch.cost[at]) - self._between if self._lengths else 0,
        )

    def turns(self, index: int) -> list[Turn]:
        """What is said in row ``index``, with places as this model sees the picture; no picture is read."""
        plan, rng = self.plan(index), np.random.default_rng([self._rows.seed, PLACES, index])
        turns = list[Turn]()
        for item, points in zip(plan.items, plan.points, strict=True):
            if isinstance(item, Talk):
                turns += item.turns
            else:
                to, frame = self._mllm.dialect, self._frame(item.width, item.height)
                prompts = prompts_of(plan.kind, item, points, plan.part.targets, self._rows, to, frame, rng)
                turns += said(plan.kind, item.phrase, prompts, self._rows, to, frame, rng)
        return turns

    def row(self, index: int) -> Conversation:
        """Row ``index``: a picture and what is said of it.

        A row that takes more tokens than the budget, though it was planned to take fewer, is told and counted in
        ``over``; nothing of it is cut.

        Raises:
            UserError: naming sample and picture, for a picture that cannot be read, or is of another size than its
                samples say.
        """
        plan, turns = self.plan(index), self.turns(index)
        image = plan.part.picture(plan.items)
        tokens = self._lengths.conversation(turns)[0] if self._lengths else 0
        if tokens > self._rows.tokens and index not in self.over:
            self.over[index] = tokens
            names = ", ".join(item.id for item in plan.items)
            log.warning("Row %d takes %d tokens of a budget of %d: %s.", index, tokens, self._rows.tokens, names)
        return image, turns

    def check_pictures(self, rows: int, process: int = 0, processes: int = 1) -> None:
        """Read the pictures of the first ``rows`` rows, so that none of them can stop a training.

        Args:
            rows: how many.
            process: which of several that train together this is, from 0 on; each reads its share.
            processes: how many they are.

        Raises:
            UserError: as `row` does.
        """
        shown = dict[tuple[str, str, int, int], tuple[Part, Sample | Talk]]()
        for plan in map(self.plan, range(rows)):
            for item in plan.items:
                shown.setdefault((plan.part.name, item.image, item.width, item.height), (plan.part, item))
        for part, item in list(shown.values())[process::processes]:
            part.picture([item])

    def _place(self, index: int) -> tuple[Epoch, int]:
        """The epoch of a row, and the row's place in it."""
        while self._starts[-1] <= index:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        number = bisect(self._starts, index) - 1
        return self.epoch(number), index - self._starts[number]


def _marked(corpus: Corpus, lengths: Lengths) -> dict[str, Bool[np.ndarray, "kinds items"]]:
    """By each mark of the model's input the items that hold it, barred in every way: they would be read as it."""
    found = dict[str, Bool[np.ndarray, "kinds items"]]()
    for number, item in enumerate(corpus.items):
        texts = [turn.text for turn in item.turns] if isinstance(item, Talk) else [plain(item.phrase)]
        mark = next(filter(None, map(lengths.mark_in, texts)), None)
        if mark:
            found.setdefault(mark, np.zeros_like(corpus.uses))[:, number] = True
    return found


def _frame_of(mllm: MLLM, width: int, height: int) -> Frame:
    """How a model sees pictures of a size."""
    return mllm.open([np.zeros((height, width, 3), dtype=np.uint8)]).frames[0]
