"""The `sam4mllm diagnose` command: writes the error breakdowns of predictions, and formats tables and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown, by_label, diagnose, format_table
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.oracle_swaps import REDRAWN, SEGMENTER
from sam4mllm.evaluation.pairing import Locations
from sam4mllm.evaluation.reliability import Reliability, point_labels, reliability
from sam4mllm.evaluation.scores import oracle_warning
from sam4mllm.evaluation.subsets import SUBSETS, subsets_named
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import prediction_paths, read_settings
from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.segmenters.load import SegmenterSpec

SAME_SEGMENTER = 0.01  # IoU; masks of one segmenter and prompt differ by less between machines


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Which stages lost the IoU of one file of predictions.

    Attributes:
        entries: one breakdown for each sample, in their order.
        samples: the diagnosed samples.
        points: how reliable the model's answers about points are.
        oracle: number of predictions made from the ground truth.
    """

    entries: list[ErrorBreakdown]
    samples: SampleSet
    points: Reliability
    oracle: int = 0

    def format_tables(self, by: Sequence[str] = ()) -> str:
        """Markdown tables of all expressions, of the subsets named in ``by``, and of the answers about points."""
        parts = [format_table({"all": self.entries})]
        for name in by:
            labels = {sample.id: SUBSETS[name].label_of(sample) for sample in self.samples}
            parts.append(format_table(by_label(self.entries, labels, SUBSETS[name]), f"lost to, by {name}"))
        return "\n".join([*parts, self.points.format_table()] if self.points.count else parts)

    @property
    def warnings(self) -> list[str]:
        """Caveats that a reader of the breakdowns needs, one line each."""
        messages = [oracle_warning(self.oracle, len(self.entries))] if self.oracle else []
        if changed := [entry.id for entry in self.entries if abs(entry.lost.get(REDRAWN, 0.0)) > SAME_SEGMENTER]:
            messages.append(
                f"{len(changed)} masks change when redrawn, first {changed[0]}: another segmenter made the "
                f"predictions, so its masks for the ground-truth prompts are unknown"
            )
        pairs = zip(self.samples, self.entries, strict=True)
        if no_target := [entry.id for sample, entry in pairs if not sample.masks and entry.lost.get(SEGMENTER) == 1]:
            messages.append(
                f"{len(no_target)} expressions have no target, first {no_target[0]}: under this profile their IoU is 0 "
                f"for any prediction, and the loss is counted under {SEGMENTER}; under rela a correct none has IoU 1"
            )
        return messages


def diagnose_set(
    samples: SampleSet,
    predictions: Path,
    segmenter: str,
    profile: str,
    out: Path,
    progress: Progress,
    by: Sequence[str] = (),
    single_mask: bool = False,
    device: str | None = None,
) -> Diagnosis:
    """Writes one breakdown for each sample to ``out``. All names and files are checked before a model is loaded.

    Args:
        samples: with ground truth.
        predictions: a file written by `predict`.
        segmenter: the segmenter that made the masks, as `build_segmenter` takes it; if empty, taken from the prediction
            settings stored with the file.
        profile: a key of `metrics.PROFILES`.
        out: the JSON Lines file to write.
        progress: makes a progress bar.
        by: names of subsets that will be passed to `Diagnosis.format_tables`; checked here.
        single_mask: use the segmenter's single mask, not the best of three; also on if the stored settings have it on.
        device: torch device of the segmenter.

    Raises:
        UserError: if a name is unknown or a file cannot be read or written; as `diagnose` does.
    """
    for name in by:
        subsets_named(name)
    profile_named(profile)
    recipe = segmenter_config(predictions, segmenter, single_mask)
    SegmenterSpec(recipe.segmenter, single_mask=recipe.single_mask)
    check_file(out, read=prediction_paths(predictions))
    records = read_predictions(predictions)
    model = replace(recipe, device=device).build_segmenter()
    with progress(len(samples), "diagnosed") as advance:
        entries = diagnose(samples, records, model, profile, advance, Locations(predictions))
    write_text(out, "".join(f"{entry.to_line()}\n" for entry in entries))
    points = reliability(point_labels(samples.samples, {prediction.id: prediction for prediction in records}))
    return Diagnosis(entries, samples, points, sum(prediction.oracle for prediction in records))


def segmenter_config(predictions: Path, segmenter: str = "", single_mask: bool = False) -> PipelineConfig:
    """The segmenter's settings: of the given segmenter, or as stored with the predictions.

    Raises:
        UserError: if no segmenter is given and none is stored.
    """
    if segmenter:
        return PipelineConfig(segmenter=segmenter, single_mask=single_mask)
    settings = read_settings(predictions)
    if not settings.get("segmenter"):
        raise UserError(f"the settings of {predictions} do not name its segmenter: pass --segmenter")
    single_mask = single_mask or bool(settings.get("single_mask"))
    dtype = str(settings.get("dtype", "auto"))
    return PipelineConfig(segmenter=str(settings["segmenter"]), single_mask=single_mask, dtype=dtype)
