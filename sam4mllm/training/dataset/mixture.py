"""What the rows of a training run hold, as plain numbers: how often what is taught, how much is asked, how much fits.

Knows nothing of samples and tokens.

    rows:
      mixture: {ppg: 1, pqpp: 1}
      asked: {mean: 10, deviation: 4, single: 0.1, hard: 0.3}
      tokens: 2048
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from sam4mllm.errors import UserError

TALK = "talk"
KINDS = ("ppg", "pqpp", "listed", "box", TALK)
"""What a conversation can be: a way of asking for masks, a field of `Mixture` each, or a talk as it is."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often expressions are asked in which way, as weights 0 or more that need not sum to 1.

    Attributes:
        ppg: boxes and points in one reply.
        pqpp: boxes, then yes or no about points inside them, one point a turn.
        listed: the same with all points of an object in one turn, as the paper asks.
        box: boxes alone.

    Raises:
        UserError: for a weight below 0 or no number, or none above 0.
    """

    ppg: float = 1.0
    pqpp: float = 1.0
    listed: float = 0.0
    box: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            raise UserError(f"a mixture's weights are 0 or more, and one of them is above 0, got {weights}")


@dataclass(frozen=True, slots=True)
class Asking:
    """About how many points of each object PQPP asks, and which.

    The number is drawn for each expression and epoch, by default as the paper's official code does: from a normal
    distribution, clipped. No more are asked than the budget of a conversation has room for.

    Attributes:
        mean: of the normal distribution.
        deviation: its standard deviation; 0 asks about as many each time.
        least: what it is clipped to, 1 or more.
        most: likewise, ``least`` or more.
        single: the share of expressions that are asked about one point, whatever is drawn: where points are asked
            one by one at inference, each is the first after the box.
        hard: the share of points that lie near the mask's edge, about as many on the mask as off it; the others are
            spread over the box.
        near: how near, as a share of the box's diagonal.

    Raises:
        UserError: for numbers that are none of these.
    """

    mean: float = 10.0
    deviation: float = 4.0
    least: int = 1
    most: int = 20
    single: float = 0.1
    hard: float = 0.3
    near: float = 0.05

    def __post_init__(self) -> None:
        for name, allowed, sound in (
            ("mean", "0 or more", 0 <= self.mean < math.inf),
            ("deviation", "0 or more", 0 <= self.deviation < math.inf),
            ("least", "1 or more", self.least >= 1),
            ("most", f"{self.least} or more, as least is", self.most >= self.least),
            ("single", "0 to 1", 0 <= self.single <= 1),
            ("hard", "0 to 1", 0 <= self.hard <= 1),
            ("near", "above 0, to 1", 0 < self.near <= 1),
        ):
            if not sound:
                raise UserError(f"asked.{name} is {allowed}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a training run hold.

    Attributes:
        mixture: how often expressions are asked in which way.
        positive: points on each object that PPG asks for.
        negative: points off it, likewise.
        asked: about how many points PQPP asks, and which.
        per_image: expressions (or talks) of one picture in one conversation, at most.
        tokens: of a conversation from the user's first word on, at most; the picture's own come on top.
        seed: of all that is random.

    Raises:
        UserError: for numbers that are none of these.
    """

    mixture: Mixture = Mixture()
    positive: int = 3
    negative: int = 3
    asked: Asking = Asking()
    per_image: int = 4
    tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.positive, self.negative, self.seed) < 0:
            raise UserError(
                f"rows take 0 or more points and a seed of 0 or more, got positive {self.positive}, negative "
                f"{self.negative} and seed {self.seed}"
            )
        if min(self.per_image, self.tokens) < 1:
            raise UserError(
                f"a conversation holds 1 or more expressions of its picture and 1 or more tokens, got per_image "
                f"{self.per_image} and tokens {self.tokens}"
            )


@dataclass(frozen=True, slots=True)
class Source:
    """One source as a recipe names it.

    Attributes:
        samples: a folder of samples, or
        talks: a folder of talks.
        targets: a folder of targets for the samples, which PPG then says; random clicks where None.
        images: the root of the pictures, where they were moved.
        weight: how often an epoch goes through it: 1 is once, 0.2 a fifth of its pictures, drawn anew for each epoch,
            2 twice; 0 leaves it out.

    Raises:
        UserError: for neither or both of samples and talks, targets for talks, or a weight below 0 or no number.
    """

    samples: str | None = None
    targets: str | None = None
    talks: str | None = None
    images: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.samples is None) is (self.talks is None):
            raise UserError(f"a source is a folder of samples or one of talks, got {self.samples} and {self.talks}")
        if self.talks is not None and self.targets is not None:
            raise UserError(f"talks have no targets: {self.talks} is given {self.targets}")
        if not 0 <= self.weight < math.inf:
            raise UserError(f"a source's weight is 0 or more, got {self.weight}")
