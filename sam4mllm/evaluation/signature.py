"""What a number was made with, in one line beside it, so that two numbers are compared only where they may be.

As sacrebleu does for BLEU (Post, "A call for clarity in reporting BLEU scores", 2018).

    >>> str(Signature("rela", 3, "5f0c3a9be1d2", Bootstrap()))
    'profile:rela|n:3|samples:5f0c3a9be1d2|metric:1|bootstrap:2000,seed 0|sam4mllm:0.1.0'
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sam4mllm import __version__
from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import VERSION

_LENGTH = 12  # hexadecimal digits: by chance alike in one of 10^14 pairs
MATTERS = ("profile", "n", "samples", "metric")
"""What two numbers must agree in to be comparable; the others change intervals, or no number."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What numbers were made with.

    Attributes:
        profile: whose conventions.
        n: how many expressions.
        samples: their `fingerprint`.
        bootstrap: of the intervals; None where there are none.
        metric: version of the numbers' definitions.
        sam4mllm: version of this package.
    """

    profile: str
    n: int
    samples: str
    bootstrap: Bootstrap | None = None
    metric: int = VERSION
    sam4mllm: str = __version__

    def __str__(self) -> str:
        drawn = f"bootstrap:{self.bootstrap.draws},seed {self.bootstrap.seed}|" if self.bootstrap else ""
        said = f"profile:{self.profile}|n:{self.n}|samples:{self.samples}|metric:{self.metric}"
        return f"{said}|{drawn}sam4mllm:{self.sam4mllm}"

    def to_json(self) -> dict[str, Any]:
        """All of it; null for no bootstrap."""
        drawn = {"draws": self.bootstrap.draws, "seed": self.bootstrap.seed} if self.bootstrap else None
        named = {name: getattr(self, name) for name in (*MATTERS, "sam4mllm")}
        return {**named, "bootstrap": drawn, "text": str(self)}


def comparable(first: Signature, second: Signature) -> bool:
    """Whether two numbers may be set side by side: the same conventions on the same samples with the same truth."""
    return all(getattr(first, name) == getattr(second, name) for name in MATTERS)


def fingerprint(samples: Sequence[Sample]) -> str:
    """A short hash of ids and truths, the same in any order; words and pictures are not part of it."""
    hashed = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.id):
        masks = [rle.counts for rle in sample.masks]
        row = (
            f"{sample.id}\n{sample.height} {sample.width}",
            *masks,
            f"-{sample.ignore.counts if sample.ignore else ''}",
        )
        hashed.update("\n".join(row).encode())
    return hashed.hexdigest()[:_LENGTH]
