"""Settings of the training rows: the mixture of kinds, the number of PQPP's points, and the token budget.

They are `rows` in a recipe:

    rows:
      mixture: {ppg: 1, pqpp: 1}
      asked: {mean: 10, deviation: 4, single: 0.1, hard: 0.3}
      tokens: 2048
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from sam4mllm.errors import UserError
from sam4mllm.training.config.ranges import check_ranges

TALK = "talk"
KINDS = ("ppg", "pqpp", "listed", "box", TALK)
"""The kinds of training conversations: those of `Mixture`, and ordinary conversations without masks."""
POINT_QUESTIONS = ("pqpp", "listed")
"""The kinds with questions about points; their number of points is limited by the token budget."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The weights of the kinds of conversations about expressions; they are 0 or more and need not sum to 1.

    Attributes:
        ppg: boxes and points in one reply.
        pqpp: boxes, then yes/no questions about points inside them, one point per turn.
        listed: as pqpp, with all points of an object in one turn, as in the paper.
        box: boxes without points.

    Raises:
        UserError: if a weight is below 0 or not finite, or no weight is above 0.
    """

    ppg: float = 1.0
    pqpp: float = 1.0
    listed: float = 0.0
    box: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            raise UserError(f"the weights of rows.mixture must be 0 or more, and one of them above 0, got {weights}")


@dataclass(frozen=True, slots=True)
class PointSampling:
    """The number and the kind of the points per object in PQPP questions.

    The number is drawn for each expression and epoch from a clipped normal distribution, by default with the values of
    the paper's official code. It is reduced if the conversation's token budget has no room for so many points.

    Attributes:
        mean: mean of the normal distribution.
        deviation: its standard deviation; 0 gives the same number each time.
        least: lower limit of the number, 1 or more.
        most: upper limit of the number, ``least`` or more.
        single: share of expressions with one point, regardless of the drawn number, because at inference each query
            directly follows the box, not another query.
        hard: share of points near the mask's edge, about half of them on the mask; the other points are spread over
            the box.
        near: largest distance of these points from the edge, as a share of the box's diagonal.

    Raises:
        UserError: if a value is out of range.
    """

    mean: float = 10.0
    deviation: float = 4.0
    least: int = 1
    most: int = 20
    single: float = 0.1
    hard: float = 0.3
    near: float = 0.05

    def __post_init__(self) -> None:
        ranges = {"0 or more": ("mean", "deviation"), "1 or more": ("least",), "0 to 1": ("single", "hard")}
        check_ranges(self, "asked", {**ranges, "above 0, to 1": ("near",)})
        if self.most < self.least:
            raise UserError(f"asked.most must be {self.least} or more, as least is, got {self.most}")


@dataclass(frozen=True, slots=True)
class Rows:
    """The settings of the training rows.

    Attributes:
        mixture: the weights of the kinds of conversations.
        positive: points on each object that PPG requests.
        negative: points off each object that PPG requests.
        asked: the points of PQPP's questions.
        per_image: maximum number of expressions, or conversations, of one image in one row.
        tokens: maximum number of tokens of a row from the first user text on; image tokens are not counted.
        seed: seed of all random draws.

    Raises:
        UserError: if a value is out of range.
    """

    mixture: Mixture = Mixture()
    positive: int = 3
    negative: int = 3
    asked: PointSampling = PointSampling()
    per_image: int = 4
    tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"0 or more": ("positive", "negative", "seed"), "1 or more": ("per_image", "tokens")}
        check_ranges(self, "rows", counts)


@dataclass(frozen=True, slots=True)
class DataSource:
    """One source of training data, an entry of `data` in a recipe.

    Attributes:
        samples: a folder of samples, or
        talks: a folder of conversations without masks.
        targets: a folder of targets for the samples, which PPG replies contain; if None, they contain random clicks.
        images: the root of the images, if they were moved.
        weight: passes per epoch: 1 uses all images once, 2 twice, 0.2 a fifth of them, drawn anew for each epoch;
            0 leaves the source out.

    Raises:
        UserError: if not exactly one of samples and talks is set, talks have targets, or the weight is below 0 or not
            finite.
    """

    samples: str | None = None
    targets: str | None = None
    talks: str | None = None
    images: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.samples is None) is (self.talks is None):
            raise UserError(
                f"a source needs either samples or talks, got samples {self.samples} and talks {self.talks}"
            )
        if self.talks is not None and self.targets is not None:
            raise UserError(f"talks have no targets: remove targets {self.targets} from {self.talks}")
        if not 0 <= self.weight < math.inf:
            raise UserError(f"the weight of a source must be 0 or more, got {self.weight}")
