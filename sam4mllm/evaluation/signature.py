"""Signatures: one line that records how a score was computed, so that only comparable scores are compared.

Modelled on sacrebleu (Post, "A call for clarity in reporting BLEU scores", 2018).

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

_LENGTH = 12  # hexadecimal digits; two hashes collide with a probability of 1 in 10^14
MATTERS = ("profile", "n", "samples", "metric")
"""The fields that must be equal for scores to be comparable; the others do not affect the scores."""


@dataclass(frozen=True, slots=True)
class Signature:
    """How scores were computed.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        n: number of expressions.
        samples: the `fingerprint` of the samples.
        bootstrap: settings of the intervals; None without intervals.
        metric: version of the metric definitions.
        sam4mllm: version of this package.
    """

    profile: str
    n: int
    samples: str
    bootstrap: Bootstrap | None = None
    metric: int = VERSION
    sam4mllm: str = __version__

    def __str__(self) -> str:
        bootstrap = f"bootstrap:{self.bootstrap.draws},seed {self.bootstrap.seed}|" if self.bootstrap else ""
        numbers = f"profile:{self.profile}|n:{self.n}|samples:{self.samples}|metric:{self.metric}"
        return f"{numbers}|{bootstrap}sam4mllm:{self.sam4mllm}"

    def to_json(self) -> dict[str, Any]:
        """All fields; ``bootstrap`` is null without intervals."""
        bootstrap = {"draws": self.bootstrap.draws, "seed": self.bootstrap.seed} if self.bootstrap else None
        fields = {name: getattr(self, name) for name in (*MATTERS, "sam4mllm")}
        return {**fields, "bootstrap": bootstrap, "text": str(self)}


def comparable(first: Signature, second: Signature) -> bool:
    """Whether two scores use the same profile on the same samples with the same ground truth."""
    return all(getattr(first, name) == getattr(second, name) for name in MATTERS)


def fingerprint(samples: Sequence[Sample]) -> str:
    """A short hash of ids and ground truths, independent of their order; phrases and images are not included."""
    hashed = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.id):
        masks = [rle.counts for rle in sample.masks]
        ignored = sample.ignore.counts if sample.ignore else ""
        row = [sample.id, f"{sample.height} {sample.width}", *masks, f"-{ignored}"]
        hashed.update("\n".join(row).encode())
    return hashed.hexdigest()[:_LENGTH]
