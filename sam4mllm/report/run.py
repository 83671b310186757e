"""A run as a page to look at: `whole` puts it together, `charts` draws its figures, `cards` its pictures.

`Run` is what they are made of: predictions with their numbers and, if that is known, with where their IoU was lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.pairing import EvaluatedSet, Places, evaluate_set
from sam4mllm.evaluation.reliability import Reliability, answered, reliability
from sam4mllm.evaluation.scores import Scores, scores_of
from sam4mllm.prediction.record import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One file of predictions with all that is known of it.

    Attributes:
        name: as the page calls it.
        tally: its samples and counted pixels.
        scores: its numbers with their intervals.
        predictions: by the sample's id.
        ious: of each, by its profile and without its epsilon.
        ledger: where each one's IoU was lost; empty where that was not asked.
        points: how right it is about points.
    """

    name: str
    tally: EvaluatedSet
    scores: Scores
    predictions: Mapping[str, Prediction]
    ious: Mapping[str, float]
    ledger: Mapping[str, ErrorBreakdown]
    points: Reliability

    @classmethod
    def of(
        cls,
        name: str,
        samples: Sequence[Sample],
        predictions: Sequence[Prediction],
        profile: str,
        bootstrap: Bootstrap,
        entries: Sequence[ErrorBreakdown] | None = None,
        places: Places | None = None,
    ) -> Run:
        """What predictions and their diagnosis say together.

        Args:
            name: as the page calls it.
            samples: with the truth.
            predictions: one for each sample, in any order.
            profile: a key of `metrics.PROFILES`.
            bootstrap: of the intervals.
            entries: of these very predictions, by the same profile; None where there is no diagnosis.
            places: where the predictions stand, for messages.

        Raises:
            UserError: as `evaluate_set` does, and for a diagnosis of others.
        """
        counted, said = evaluate_set(samples, predictions, profile, places), {one.id: one for one in predictions}
        rules, rows = profile_named(profile), counted.pixels.rows
        ious = {sample.id: rules.iou(counts) for sample, counts in zip(samples, rows, strict=True)}
        if entries is not None:
            _check(name, entries, ious)
        return cls(
            name,
            counted,
            scores_of(counted, bootstrap),
            said,
            ious,
            {one.id: one for one in entries or ()},
            reliability(answered(samples, said)),
        )


def _check(name: str, entries: Sequence[ErrorBreakdown], ious: Mapping[str, float]) -> None:
    """Refuse a diagnosis that is not of these IoUs."""
    if len(entries) != len(ious) or {one.id for one in entries} != set(ious):
        raise UserError(
            f"the diagnosis of {name} is of other samples: it holds {len(entries)}, the predictions {len(ious)}"
        )
    for one in entries:
        if one.iou != ious[one.id]:
            raise UserError(
                f"the diagnosis of {name} is of other predictions, or by another profile: for {one.id} it says an IoU "
                f"of {float(one.iou):.3f}, and here it is {float(ious[one.id]):.3f}"
            )
