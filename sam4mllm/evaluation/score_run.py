"""What `sam4mllm score` does: samples and masks of anyone in, numbers with their intervals, strata and signature out.

>>> print(scored(read_samples(folder).samples, Path("out/val.jsonl"), "rela", Bootstrap(), by=["size"]).text("val"))
| set | n | gIoU | ... signature: profile:rela|n:3|samples:5f0c3a9be1d2|metric:1|...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.external import read_any
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.scores import Scores, compared, comparison, or_none, oracle_warning, scores_of, table
from sam4mllm.evaluation.subsets import stratum_named
from sam4mllm.evaluation.pairing import Tally, by_label, tally


@dataclass(frozen=True, slots=True)
class Scored:
    """All that was asked of one file of predictions.

    Attributes:
        whole: the numbers of all expressions.
        strata: the numbers by label, by the name of the stratum.
        apart: by how much each number is higher than in other predictions, with the interval's ends.
        warnings: what has to be known of the numbers, one line each.
    """

    whole: Scores
    strata: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)
    apart: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """Markdown tables and their signatures, under the name of the set."""
        parts = [table({name: self.whole})]
        for stratum, scores in self.strata.items():
            parts += [
                table(scores, what=stratum),
                "".join(f"- {each}: `{one.signature}`\n" for each, one in scores.items()),
            ]
        parts += [comparison(self.apart)] if self.apart else []
        return "\n".join([*parts, f"signature: {self.whole.signature}\n"])

    def to_json(self) -> dict[str, Any]:
        """The whole's numbers, those of strata and differences by name, and what has to be known of them."""
        strata = {
            name: {label: scores.to_json() for label, scores in found.items()} for name, found in self.strata.items()
        }
        apart = {name: [or_none(one) for one in numbers] for name, numbers in self.apart.items()}
        return {**self.whole.to_json(), "strata": strata, "against": apart, "warnings": list(self.warnings)}


def scored(
    samples: Sequence[Sample],
    predictions: Path,
    profile: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    against: Path | None = None,
) -> Scored:
    """The numbers of the masks at a path.

    Args:
        samples: with the truth.
        predictions: our JSON lines, a folder of PNGs, or a list of COCO RLE (see `peers`).
        profile: a key of `metrics.PROFILES`.
        bootstrap: of the intervals.
        by: names of strata, a table each.
        against: other predictions of the same samples.

    Raises:
        UserError: for an unknown name; as `read_any` and `tally` do.
    """
    strata = {name: stratum_named(name) for name in by}
    counted = count_at(samples, predictions, profile)
    whole = scores_of(counted, bootstrap)
    second = count_at(samples, against, profile) if against else None
    ceiling = int(second.oracle.sum()) if second else 0
    return Scored(
        whole,
        {
            name: {label: scores_of(part, bootstrap) for label, part in by_label(counted, stratum).items()}
            for name, stratum in strata.items()
        },
        compared(counted, second, bootstrap) if second else {},
        (*warnings(whole), *([f"{against}: {oracle_warning(ceiling, len(samples))}"] if ceiling else [])),
    )


def count_at(samples: Sequence[Sample], path: Path, profile: str) -> Tally:
    """The masks at a path, paired with their samples and counted.

    Raises:
        UserError: as `read_any` and `tally` do.
    """
    profile_named(profile)
    found = read_any(path, samples)
    return tally(samples, found.outcomes, profile, found.places)


def warnings(scores: Scores) -> list[str]:
    """What has to be known of numbers, one line each."""
    said = [profile_named(scores.profile).warning]
    if scores.oracle:
        said.append(oracle_warning(scores.oracle, scores.n))
    return [one for one in said if one]
