"""The rows of a training run, numbered 0, 1, 2 ...; a row's image and turns depend only on its number.

The weight of a source is the number of times that an epoch uses it. A row holds several expressions of one image, up
to a token budget. They are all of one kind, which is drawn by the mixture's weights. Items that cannot be used are
counted.

    >>> conversations = TrainingRows(corpus(read_sources(recipe.data), rows), rows, mllm, mllm.lengths)
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

from sam4mllm.data.conversations import Conversation
from sam4mllm.data.samples import Sample
from sam4mllm.geometry.prompts import Frame
from sam4mllm.language.messages import Turn
from sam4mllm.language.templates import plain
from sam4mllm.mllm import MLLM, ImageTurns
from sam4mllm.training.dataset.corpus import Corpus, LoadedSource
from sam4mllm.training.dataset.examples import choose_prompts, make_turns
from sam4mllm.training.dataset.mixture import KINDS, TALK, Rows
from sam4mllm.training.dataset.sampler import Epoch, SamplerInput, make_epoch
from sam4mllm.training.dataset.token_budget import Lengths, count_costs

log = logging.getLogger(__name__)
PLACES = 5  # the random stream of the places in a row; `sampler` has the streams of the plan


@dataclass(frozen=True, slots=True)
class Plan:
    """The contents of a row.

    Attributes:
        part: the source.
        kind: one of `KINDS`.
        items: samples or conversations of one image.
        points: for each item, the number of points per object in PQPP's questions.
        tokens: upper bound on the row's tokens.
    """

    part: LoadedSource
    kind: str
    items: tuple[Sample | Conversation, ...]
    points: tuple[int, ...]
    tokens: int


class TrainingRows:
    """The training rows of a corpus.

    Args:
        corpus: the training items.
        rows: the settings of the rows.
        mllm: the model to train, for its dialect and image frames.
        lengths: counts the model's tokens.

    Attributes:
        corpus: the items that fit the budget; its ``left_out`` lists those that do not.
        over: the token counts, by row number, of the rows made so far that exceed the budget.

    Raises:
        UserError: if no item of a kind fits the budget.
    """

    def __init__(self, corpus: Corpus, rows: Rows, mllm: MLLM, lengths: Lengths) -> None:
        self._rows, self._mllm, self._lengths = rows, mllm, lengths
        self._frame = lru_cache(maxsize=4096)(partial(_frame_of, mllm))
        for token, items in _items_with_special_tokens(corpus, lengths).items():
            corpus = corpus.without(items, f"the text contains {token}, a special token of the model")
        widest, highest = (max(corpus.items, key=attrgetter(side)) for side in ("width", "height"))
        frames = [self._frame(item.width, item.height) for item in (widest, highest)]
        costs = count_costs(corpus, rows, lengths, mllm.dialect, frames)
        self.corpus = corpus.without(costs.too_long, f"longer than {rows.tokens} tokens")
        self.over: dict[int, int] = {}
        weights = {**asdict(rows.mixture), TALK: 1.0}
        inputs = SamplerInput(
            self.corpus.source,
            self.corpus.image,
            self.corpus.uses,
            np.array([part.weight for part in corpus.parts]),
            np.array([weights[kind] for kind in KINDS]),
            costs,
            rows.per_image,
            rows.asked,
            rows.seed,
        )
        self.epoch = lru_cache(maxsize=64)(partial(make_epoch, inputs))
        self._between = costs.capacity - rows.tokens
        self._starts = [0]

    def __len__(self) -> int:
        """The number of rows in the first epoch; other epochs have about as many."""
        return len(self.epoch(0))

    def rows_in(self, epochs: float) -> int:
        """The number of rows in the first ``epochs`` epochs, which may be a fraction."""
        complete = int(epochs)
        part = round((epochs - complete) * len(self.epoch(complete))) if epochs > complete else 0
        return sum(len(self.epoch(number)) for number in range(complete)) + part

    def plan(self, index: int) -> Plan:
        """The contents of row ``index``, without reading its image."""
        epoch, position = self._locate(index)
        members = slice(epoch.starts[position], epoch.starts[position + 1])
        numbers = epoch.items[members].tolist()
        return Plan(
            self.corpus.part(numbers[0]),
            KINDS[epoch.kind[position]],
            tuple(self.corpus.items[number] for number in numbers),
            tuple(epoch.points[members].tolist()),
            int(epoch.cost[position]) - self._between,
        )

    def turns(self, index: int) -> list[Turn]:
        """The turns of row ``index``, with places in the model's frame; the image is not read."""
        plan, rng = self.plan(index), np.random.default_rng([self._rows.seed, PLACES, index])
        turns = list[Turn]()
        for item, points in zip(plan.items, plan.points, strict=True):
            if isinstance(item, Conversation):
                turns += item.turns
            else:
                dialect, frame = self._mllm.dialect, self._frame(item.width, item.height)
                prompts = choose_prompts(plan.kind, item, points, plan.part.targets, self._rows, dialect, frame, rng)
                turns += make_turns(plan.kind, item.phrase, prompts, self._rows, dialect, frame, rng)
        return turns

    def row(self, index: int) -> ImageTurns:
        """The image and the turns of row ``index``.

        If the row exceeds the token budget in spite of its plan, a warning is logged and the row is recorded in
        ``over``; the row is not cut.

        Raises:
            UserError: if the image cannot be read or its size differs from the one its samples record; the message
                names the sample and the image.
        """
        plan, turns = self.plan(index), self.turns(index)
        image = plan.part.read_image(plan.items)
        tokens = self._lengths.conversation(turns)[0]
        if tokens > self._rows.tokens and index not in self.over:
            self.over[index] = tokens
            ids, budget = ", ".join(item.id for item in plan.items), self._rows.tokens
            log.warning("Row %d has %d tokens, more than the budget of %d: %s.", index, tokens, budget, ids)
        return image, turns

    def check_pictures(self, rows: int, process: int = 0, processes: int = 1) -> None:
        """Read the images of the first ``rows`` rows, so that a damaged file is reported before the training starts.

        Args:
            rows: number of rows.
            process: rank of this process; each process reads its share of the images.
            processes: number of processes.

        Raises:
            UserError: as `row` does.
        """
        images = dict[tuple[str, str, int, int], tuple[LoadedSource, Sample | Conversation]]()
        for plan in map(self.plan, range(rows)):
            for item in plan.items:
                images.setdefault((plan.part.name, item.image, item.width, item.height), (plan.part, item))
        for part, item in list(images.values())[process::processes]:
            part.read_image([item])

    def _locate(self, index: int) -> tuple[Epoch, int]:
        """The epoch of a row, and the row's position in it."""
        while self._starts[-1] <= index:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        number = bisect(self._starts, index) - 1
        return self.epoch(number), index - self._starts[number]


def _items_with_special_tokens(corpus: Corpus, lengths: Lengths) -> dict[str, Bool[np.ndarray, "kinds items"]]:
    """By special token, the items whose text contains it. The tokenizer would not read it as text."""
    barred = dict[str, Bool[np.ndarray, "kinds items"]]()
    for number, item in enumerate(corpus.items):
        texts = [turn.text for turn in item.turns] if isinstance(item, Conversation) else [plain(item.phrase)]
        token = next(filter(None, map(lengths.find_special_token, texts)), None)
        if token:
            barred.setdefault(token, np.zeros_like(corpus.uses))[:, number] = True
    return barred


def _frame_of(mllm: MLLM, width: int, height: int) -> Frame:
    """The model's frame for images of this size."""
    return mllm.open([np.zeros((height, width, 3), dtype=np.uint8)]).frames[0]
