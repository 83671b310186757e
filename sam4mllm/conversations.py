"""Samples as conversations to learn from: row 0, 1, 2 ... of a training run, the same for the same number.

An epoch goes once through all samples that can be used. The expressions of one picture are cut into groups, each
group is one conversation, and all its expressions are asked in one way, drawn by the mixture's weights. What cannot be
used is counted. Knows nothing of tokens and training.

    >>> conversations = Conversations(read_samples(folder), Rows(), read_targets(targets))
    >>> conversations.row(mllm, 0)[1]
    [Turn(role='user', text='Where is "the cat" ...'), Turn(role='assistant', text='[100,200,300,400] (150,250): ...')]
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from sam4mllm.dialects import Dialect
from sam4mllm.errors import UserError
from sam4mllm.geometry import Box, Frame, Prompt
from sam4mllm.mllm import MLLM, Conversation, Turn
from sam4mllm.samples import Sample, SampleSet
from sam4mllm.sampling import Points, clicks, label, poisson_disk
from sam4mllm.target_shards import Target
from sam4mllm.turns import box_turns, ppg_turns, pqpp_turns

log = logging.getLogger(__name__)

Targets = Mapping[tuple[str, int], Target]
ORDER, GROUPS, KINDS, PLACES = range(4)  # streams of random numbers, so that none of them shifts another
LAID = 60  # Poisson-disk points in a box, of which some are asked about


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often a conversation teaches what, as weights 0 or more that need not sum to 1.

    Attributes:
        ppg: boxes and points in one reply.
        pqpp: boxes, then yes or no about points inside them.
        box: boxes alone.

    Raises:
        UserError: for a weight below 0 or no number, or none above 0.
    """

    ppg: float = 1.0
    pqpp: float = 1.0
    box: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            raise UserError(f"a mixture's weights are 0 or more, and one of them is above 0, got {weights}")


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a training run hold.

    Attributes:
        mixture: how often a conversation teaches what.
        positive: points on each object that PPG asks for.
        negative: points off it, likewise.
        asked: points that PQPP asks about in each object's box.
        per_image: expressions of one picture in one conversation, at most.
        seed: of all that is random.

    Raises:
        UserError: for numbers that are none of these.
    """

    mixture: Mixture = Mixture()
    positive: int = 3
    negative: int = 3
    asked: int = 6
    per_image: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.positive, self.negative, self.asked, self.seed) < 0:
            raise UserError(
                f"rows take 0 or more points and a seed of 0 or more, got positive {self.positive}, negative "
                f"{self.negative}, asked {self.asked} and seed {self.seed}"
            )
        if self.per_image < 1:
            raise UserError(f"a conversation holds 1 or more expressions of its picture, got {self.per_image}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a row is about: samples of one picture, and the way in which they are asked (a field of `Mixture`)."""

    kind: str
    samples: tuple[Sample, ...]


class Conversations:
    """The rows that some samples give.

    Args:
        samples: of any kind; those that mean nothing teach "none".
        rows: what the rows hold.
        targets: for PPG, the prompts that redraw each mask best; random clicks in each mask's box where None.

    Attributes:
        left_out: how many samples are not used in one way (a field of `Mixture`) for one reason; they are used in the
            other ways, where they can be.

    Raises:
        UserError: for targets of other samples or with other numbers of points than the rows ask for, and where a way
            that has weight can use no sample.
    """

    def __init__(self, samples: SampleSet, rows: Rows, targets: Targets | None = None) -> None:
        self._samples, self._rows, self._targets = samples, rows, targets
        self._weights = {kind: weight for kind, weight in asdict(rows.mixture).items() if weight}
        if targets is not None and "ppg" in self._weights:
            _check(samples, targets, rows)
        self.left_out: Counter[tuple[str, str]] = Counter()
        self._pools = self._pooled()
        self._slots = [
            (number, group)
            for number, (_, pool) in enumerate(self._pools)
            for group in range(math.ceil(len(pool) / rows.per_image))
        ]
        self._tell()

    def __len__(self) -> int:
        """How many rows an epoch has."""
        return len(self._slots)

    def plan(self, index: int) -> Plan:
        """What row ``index`` is about; no picture is read."""
        seed, (epoch, place) = self._rows.seed, divmod(index, len(self))
        number, group = self._slots[_order(seed, epoch, len(self))[place]]
        kinds, pool = self._pools[number]
        shuffled = np.random.default_rng([seed, GROUPS, epoch, number]).permutation(len(pool))
        chosen = np.array_split(shuffled, math.ceil(len(pool) / self._rows.per_image))[group]
        weights = np.array([self._weights[kind] for kind in kinds])
        kind = np.random.default_rng([seed, KINDS, index]).choice(len(kinds), p=weights / weights.sum())
        return Plan(kinds[kind], tuple(pool[one] for one in chosen))

    def row(self, mllm: MLLM, index: int) -> Conversation:
        """Row ``index``: a picture and what is said of it, with places as this model sees the picture.

        Raises:
            UserError: for a picture that cannot be read, or is of another size than its samples say.
        """
        plan, rng = self.plan(index), np.random.default_rng([self._rows.seed, PLACES, index])
        image = self._samples.picture(plan.samples[0])
        frame = mllm.open([image]).frames[0]
        turns = [turn for sample in plan.samples for turn in self._turns(plan.kind, sample, mllm.dialect, frame, rng)]
        return image, turns

    def check_pictures(self, rows: int) -> None:
        """Read the pictures of the first ``rows`` rows, so that none of them can stop a training.

        Raises:
            UserError: as `row` does.
        """
        plans = map(self.plan, range(min(rows, len(self))))
        shown = {(one.image, one.width, one.height): one for plan in plans for one in plan.samples}
        for sample in shown.values():
            self._samples.picture(sample)

    def _turns(self, kind: str, sample: Sample, dialect: Dialect, frame: Frame, rng: np.random.Generator) -> list[Turn]:
        rows, phrase = self._rows, sample.phrase
        objects = [(rle.mask, box) for rle in sample.masks if (box := rle.box)]  # no mask is empty: see `_reason`
        match kind:
            case "ppg" if self._targets is not None:
                kept = [self._targets[sample.id, index].prompts for index in range(len(objects))]
                prompts = [one[rng.integers(len(one))] for one in kept]
                return ppg_turns(phrase, prompts, rows.positive, rows.negative, dialect, frame)
            case "ppg":
                prompts = [Prompt(box, clicks(mask, box, rows.positive, rows.negative, rng)) for mask, box in objects]
                return ppg_turns(phrase, prompts, rows.positive, rows.negative, dialect, frame)
            case "pqpp":
                prompts = [Prompt(box, label(_spread(box, rows.asked, rng), mask)) for mask, box in objects]
                return pqpp_turns(phrase, prompts, dialect, frame, rng)
        return box_turns(phrase, [Prompt(box) for _, box in objects], dialect, frame)

    def _pooled(self) -> list[tuple[tuple[str, ...], list[Sample]]]:
        """The samples of each picture that can be used in the same ways, in order; what cannot is counted."""
        pools: dict[tuple[str, tuple[str, ...]], list[Sample]] = {}
        for sample in self._samples:
            reasons = {kind: _reason(kind, sample, self._targets) for kind in self._weights}
            self.left_out.update((kind, reason) for kind, reason in reasons.items() if reason)
            if kinds := tuple(kind for kind, reason in reasons.items() if not reason):
                pools.setdefault((sample.image, kinds), []).append(sample)
        for kind in self._weights:
            if not any(kind in kinds for _, kinds in pools):
                raise UserError(f"no sample can be used for {kind}: {self._said(kind) or 'there is none'}")
        return [(kinds, pool) for (_, kinds), pool in pools.items()]

    def _tell(self) -> None:
        for kind in dict.fromkeys(kind for kind, _ in self.left_out):
            log.warning("Of %d samples are not used for %s: %s.", len(self._samples), kind, self._said(kind))

    def _said(self, way: str) -> str:
        return ", ".join(f"{count} ({reason})" for (kind, reason), count in self.left_out.items() if kind == way)


def _check(samples: SampleSet, targets: Targets, rows: Rows) -> None:
    """Refuse targets that these samples and rows cannot mean."""
    if not targets and any(sample.masks for sample in samples):
        raise UserError("there are no targets: their folder holds none")
    named = {name for name, _ in targets}
    if any(sample.masks for sample in samples) and not any(sample.id in named for sample in samples):
        raise UserError(f"the targets are of other samples: no id of these is among their {len(named)}")
    prompts = [prompt for target in targets.values() for prompt in target.prompts]
    for name, sign, asked in (("positive", True, rows.positive), ("negative", False, rows.negative)):
        most = max((sum(point.positive is sign for point in prompt.points) for prompt in prompts), default=asked)
        if most != asked:
            raise UserError(
                f"the rows ask for {asked} {name} points, and the targets have {most}: set {name} to {most}"
            )


def _reason(kind: str, sample: Sample, targets: Targets | None) -> str | None:
    """Why a sample cannot be used in a way; None where it can."""
    if not sample.phrase.strip():
        return "the phrase is empty"
    if any(mask.box is None for mask in sample.masks):
        return "a mask is empty"
    if kind == "ppg" and targets is not None:
        found = [targets.get((sample.id, index)) for index in range(len(sample.masks))]
        if None in found:
            return "a mask has no target"
        if not all(target.prompts for target in found if target):
            return "no prompt redraws a mask well enough"
    return None


def _spread(box: Box, count: int, rng: np.random.Generator) -> Points:
    """Some of many points that cover a box evenly: a few alone would keep their distance and lie in its corners."""
    return rng.permutation(poisson_disk(box, max(count, LAID), rng))[:count]


@lru_cache(maxsize=16)  # a trainer may ask for the rows of all its epochs in any order
def _order(seed: int, epoch: int, count: int) -> Int[np.ndarray, "n"]:
    """In which order the conversations of an epoch come."""
    return np.random.default_rng([seed, ORDER, epoch]).permutation(count)
