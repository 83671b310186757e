"""What `sam4mllm diagnose` does: writes the error breakdowns of predictions, and formats tables and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ErrorBreakdown, by_label, diagnose, format_table
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.oracle_swaps import REDRAWN, SEGMENTER
from sam4mllm.evaluation.pairing import Places
from sam4mllm.evaluation.reliability import Reliability, answered, reliability
from sam4mllm.evaluation.scores import oracle_warning
from sam4mllm.evaluation.subsets import SUBSETS, subsets_named
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import settings_beside, with_beside
from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.segmenters.load import check_segmenter

SAME_SEGMENTER = 0.01  # IoU; one segmenter differs by less between machines, on one prompt


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Which stages lost the IoU of one file of predictions.

    Attributes:
        entries: one breakdown for each sample, in their order.
        samples: the samples.
        points: how reliable the model's answers about points are.
        oracle: how many of the predictions were made from the ground truth.
    """

    entries: list[ErrorBreakdown]
    samples: SampleSet
    points: Reliability
    oracle: int = 0

    def format_tables(self, by: Sequence[str] = ()) -> str:
        """Markdown tables: of all expressions, of the subsets by each name, and of the points that were asked about."""
        parts = [format_table({"all": self.entries})]
        for name in by:
            labels = {sample.id: SUBSETS[name].label_of(sample) for sample in self.samples}
            parts.append(format_table(by_label(self.entries, labels, SUBSETS[name]), f"lost to, by {name}"))
        return "\n".join([*parts, self.points.format_table()] if self.points.count else parts)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the breakdowns has to know, one line each."""
        messages = [oracle_warning(self.oracle, len(self.entries))] if self.oracle else []
        if unlike := [entry.id for entry in self.entries if abs(entry.lost.get(REDRAWN, 0.0)) > SAME_SEGMENTER]:
            messages.append(
                f"{len(unlike)} masks are redrawn unlike what was predicted, the first is {unlike[0]}: the predictions "
                f"are of another segmenter, and what it would have made of the truth is not known"
            )
        pairs = zip(self.samples, self.entries, strict=True)
        if no_target := [entry.id for sample, entry in pairs if not sample.masks and entry.lost.get(SEGMENTER) == 1]:
            messages.append(
                f"{len(no_target)} expressions have no target, the first is {no_target[0]}: by this profile their IoU "
                f"is 0 whatever is said, and all of that stands under {SEGMENTER}; by rela a right none is 1"
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
        predictions: a file that `predict` wrote.
        segmenter: the one that drew them, as `build_segmenter` takes it; if empty, the one noted beside the file.
        profile: a key of `metrics.PROFILES`.
        out: a JSON Lines file.
        progress: makes a progress bar.
        by: names of subsets that `Diagnosis.format_tables` will be given.
        single_mask: use the segmenter's single mask, not the best of three; also if that was noted.
        device: of the segmenter, as torch names it.

    Raises:
        UserError: if a name is unknown or a file cannot be read or written; as `diagnose` does.
    """
    for name in by:
        subsets_named(name)
    profile_named(profile)
    recipe = drawer_of(predictions, segmenter, single_mask)
    check_segmenter(recipe.segmenter, recipe.single_mask)
    check_file(out, read=with_beside(predictions))
    records = read_predictions(predictions)
    model = replace(recipe, device=device).build_segmenter()
    with progress(len(samples), "diagnosed") as advance:
        entries = diagnose(samples, records, model, profile, advance, Places(predictions))
    write_text(out, "".join(f"{entry.to_line()}\n" for entry in entries))
    points = reliability(answered(samples.samples, {prediction.id: prediction for prediction in records}))
    return Diagnosis(entries, samples, points, sum(prediction.oracle for prediction in records))


def drawer_of(predictions: Path, segmenter: str = "", single_mask: bool = False) -> Recipe:
    """The settings of the segmenter alone: the given one, or the one noted beside the predictions.

    Raises:
        UserError: if none is given and none is noted.
    """
    if segmenter:
        return Recipe(segmenter=segmenter, single_mask=single_mask)
    noted = settings_beside(predictions)
    if not noted.get("segmenter"):
        raise UserError(f"nothing beside {predictions} says which segmenter drew it: give --segmenter")
    single_mask = single_mask or bool(noted.get("single_mask"))
    return Recipe(segmenter=str(noted["segmenter"]), single_mask=single_mask, dtype=str(noted.get("dtype", "auto")))
