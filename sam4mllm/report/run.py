"""The values behind a report: predictions with their scores and, if diagnosed, their error breakdowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.pairing import EvaluatedSet, Locations, evaluate_set
from sam4mllm.evaluation.reliability import Reliability, point_labels, reliability
from sam4mllm.evaluation.scores import Scores, scores_of
from sam4mllm.prediction.record import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One prediction file with all values that a report shows.

    Attributes:
        name: the run's name on the page.
        tally: samples and pixel counts.
        scores: metrics with their intervals.
        predictions: by sample id.
        ious: by sample id, under the profile and without its epsilon.
        ledger: error breakdowns by sample id; empty without a diagnosis.
        points: reliability of the model's answers about points.
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
        places: Locations | None = None,
    ) -> Run:
        """Scores predictions and joins them with their diagnosis.

        Args:
            name: the run's name on the page.
            samples: with ground truth.
            predictions: one per sample, in any order.
            profile: a key of `metrics.PROFILES`.
            bootstrap: settings of the intervals.
            entries: diagnosis of these predictions under the same profile; None without one.
            places: locations of the predictions, for error messages.

        Raises:
            UserError: if predictions and samples do not match (see `evaluate_set`), or the diagnosis belongs to other
                predictions.
        """
        counted = evaluate_set(samples, predictions, profile, places)
        predictions_by_id = {prediction.id: prediction for prediction in predictions}
        rules, rows = profile_named(profile), counted.pixels.rows
        ious = {sample.id: rules.iou(counts) for sample, counts in zip(samples, rows, strict=True)}
        if entries is not None:
            _check_diagnosis(name, entries, ious)
        return cls(
            name,
            counted,
            scores_of(counted, bootstrap),
            predictions_by_id,
            ious,
            {entry.id: entry for entry in entries or ()},
            reliability(point_labels(samples, predictions_by_id)),
        )


def _check_diagnosis(name: str, entries: Sequence[ErrorBreakdown], ious: Mapping[str, float]) -> None:
    """Raises a `UserError` unless the diagnosis has the samples and IoUs of the predictions."""
    if len(entries) != len(ious) or {entry.id for entry in entries} != set(ious):
        raise UserError(
            f"the diagnosis of {name} belongs to other samples: it has {len(entries)}, the predictions {len(ious)}"
        )
    for entry in entries:
        if entry.iou != ious[entry.id]:
            raise UserError(
                f"the diagnosis of {name} belongs to other predictions or another profile: {entry.id} has an IoU "
                f"of {entry.iou:.3f} in it, and {ious[entry.id]:.3f} in the predictions"
            )
