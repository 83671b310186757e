"""What `sam4mllm diagnose` does: samples and predictions in, a file of entries, tables and what to know of them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import ALIKE, Entry, by_label, diagnose, table
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.oracle_swaps import REDRAWN, SEGMENTER
from sam4mllm.evaluation.pairing import Places
from sam4mllm.evaluation.reliability import Reliability, answered, reliability
from sam4mllm.evaluation.scores import oracle_warning
from sam4mllm.evaluation.subsets import STRATA, stratum_named
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import settings_beside, with_beside
from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.segmenters.load import check_segmenter


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Where the IoU of one file of predictions was lost.

    Attributes:
        entries: one for each sample, in their order.
        samples: what they are of.
        points: how right the model was about points.
        oracle: how many of the predictions were drawn from the truth itself.
    """

    entries: list[Entry]
    samples: SampleSet
    points: Reliability
    oracle: int = 0

    def text(self, by: Sequence[str] = ()) -> str:
        """Markdown tables: of all expressions, by each of the strata, and of the points that were asked about."""
        parts = [table({"all": self.entries})]
        for name in by:
            labels = {sample.id: STRATA[name].of(sample) for sample in self.samples}
            parts.append(table(by_label(self.entries, labels, STRATA[name]), f"lost to, by {name}"))
        return "\n".join([*parts, self.points.text()] if self.points.count else parts)

    @property
    def warnings(self) -> list[str]:
        """What has to be known of the entries, one line each."""
        said = [oracle_warning(self.oracle, len(self.entries))] if self.oracle else []
        if unlike := [one.id for one in self.entries if abs(one.lost.get(REDRAWN, Fraction())) > ALIKE]:
            said.append(
                f"{len(unlike)} masks are redrawn unlike what was predicted, the first is {unlike[0]}: the predictions "
                f"are of another segmenter, and what it would have made of the truth is not known"
            )
        pairs = zip(self.samples, self.entries, strict=True)
        if never := [one.id for sample, one in pairs if not sample.masks and one.lost.get(SEGMENTER) == 1]:
            said.append(
                f"{len(never)} expressions have no target, the first is {never[0]}: by this profile their IoU is 0 "
                f"whatever is said, and all of that stands under {SEGMENTER}; by rela a right none is 1"
            )
        return said


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
    """Make ``out`` hold one entry for each sample; all names and files are checked before a model is loaded.

    Args:
        samples: with the truth.
        predictions: as `predict` left them.
        segmenter: that drew them, as `build_segmenter` takes it; where empty, the one that `predict` noted beside them.
        profile: whose rules, a key of `metrics.PROFILES`.
        out: a JSON Lines file.
        progress: makes a bar of so many steps.
        by: names of strata that will be asked for.
        single_mask: its one mask, and not its best of three; so too where that was noted.
        device: of the segmenter, as torch names it.

    Raises:
        UserError: for an unknown name, files that cannot be read or written, and as `diagnose` does.
    """
    for name in by:
        stratum_named(name)
    profile_named(profile)
    recipe = drawer_of(predictions, segmenter, single_mask)
    check_segmenter(recipe.segmenter, recipe.single_mask)
    check_file(out, read=with_beside(predictions))
    said = read_predictions(predictions)
    drawer = replace(recipe, device=device).build_segmenter()
    with progress(len(samples), "diagnosed") as advance:
        entries = diagnose(samples, said, drawer, profile, advance, Places(predictions))
    write_text(out, "".join(f"{one.to_line()}\n" for one in entries))
    points = reliability(answered(samples.samples, {one.id: one for one in said}))
    return Diagnosis(entries, samples, points, sum(one.oracle for one in said))


def drawer_of(predictions: Path, segmenter: str = "", single_mask: bool = False) -> Recipe:
    """The segmenter to draw with, and no more of a recipe: the one that is named, else the one that drew.

    Raises:
        UserError: where none is named and the predictions have no note of what made them.
    """
    if segmenter:
        return Recipe(segmenter=segmenter, single_mask=single_mask)
    noted = settings_beside(predictions)
    if not noted.get("segmenter"):
        raise UserError(f"nothing beside {predictions} says which segmenter drew it: give --segmenter")
    one = single_mask or bool(noted.get("single_mask"))
    return Recipe(segmenter=str(noted["segmenter"]), single_mask=one, dtype=str(noted.get("dtype", "auto")))
