"""What `sam4mllm calibrate` does: an adapter and a validation split in, PQPP's options into the adapter's card.

Adaptive PQPP keeps its own: it asks where answers are least sure, and thresholds that are chosen for points laid evenly
let too many wrong ones of those through.

Beside the adapter, or wherever `out` is, lie what was asked, from which a stopped run goes on, and what was found:

    calibration/asked.jsonl   a survey of the validation split, as predictions
    calibration/test.jsonl    one of the test split, about the points of the settings that are compared
    calibration/report.json   {"chosen": {"layout": "grid", "points": 9, "sure_yes": 0.6, "sure_no": 0.7}, ...}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet, read_samples
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import differences
from sam4mllm.evaluation.calibration.choice import DEFAULT, SAME, Calibrated, Choice
from sam4mllm.evaluation.calibration.survey import SurveyRunner
from sam4mllm.evaluation.calibration.sweep import PAPER, Setting, Swept
from sam4mllm.evaluation.signature import fingerprint
from sam4mllm.mllm.adapter_card import CARD, Card
from sam4mllm.runtime.files import check_file, check_folder, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import data


def calibrate(
    recipe: Recipe,
    choice: Choice,
    samples: Path,
    out: Path | None,
    batch_size: int,
    progress: Progress,
    test: Path | None = None,
    images: Path | None = None,
) -> Calibrated:
    """Choose PQPP's options on a validation split and write them into the adapter's card.

    Args:
        recipe: names the adapter and the segmenter.
        choice: among what, and by which number.
        samples: the validation split's folder.
        out: the folder for what was asked and found; ``calibration`` in the adapter's where None.
        batch_size: how many samples the model is asked about at once, 1 or more.
        progress: makes a bar of so many steps.
        test: another split, on which the gain is measured; not at all where None.
        images: the root of the pictures of both, where they were moved.

    Raises:
        UserError: for an adapter without a card, a split that it was trained on, the validation split as the test
            split, no samples, and whatever cannot be built, read or written.
    """
    card, folder = _card(recipe), Path(recipe.adapter or "")
    recipe = replace(recipe, prompter="pqpp").resolved()
    recipe.check()
    out = out or folder / "calibration"
    check_folder(out)
    check_file(folder / CARD)
    validation = _split(samples, images, card)
    held_out = _split(test, images, card) if test else None
    warnings = (*_warnings(validation, held_out), *_listed(card))
    asking = SurveyRunner(recipe, choice.profile, batch_size, progress)
    swept, failed = asking.swept(validation, choice.settings, out / "asked.jsonl")
    chosen = swept.best(choice.metric)
    beside = {"calibrated": chosen, SAME: Setting(chosen.layout, PAPER.sure), DEFAULT: PAPER}
    tested = None
    if held_out:
        tested, lost = asking.swept(held_out, list(dict.fromkeys(beside.values())), out / "test.jsonl")
        failed += lost
    found = Calibrated(
        chosen,
        choice.metric,
        _numbers(swept, beside, choice.metric),
        _numbers(tested, beside, choice.metric),
        _gains(tested, beside, choice),
        {"settings": len(swept.pixels), "samples": len(validation), "masks": swept.drawn},
        (*warnings, *failed),
    )
    write_text(out / "report.json", json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    replace(card, prompters={**card.prompters, "pqpp": chosen.options}).write(folder)
    return found


def _card(recipe: Recipe) -> Card:
    card = Card.read(Path(recipe.adapter)) if recipe.adapter else None
    if card is None:
        raise UserError(f"what is chosen is kept in an adapter's {CARD}: give --adapter, a folder that holds one")
    return card


def _split(folder: Path, images: Path | None, card: Card) -> SampleSet:
    """The samples of a split that the adapter has not learned from."""
    found = read_samples(folder, images)
    taught = {hashed: place for place, hashed in card.data.items()}
    for hashed in data([str(folder)]).values():
        if hashed in taught:
            raise UserError(
                f"the adapter was taught {folder} ({taught[hashed]} in its {CARD}): give a validation split"
            )
    if not len(found):
        raise UserError(f"{folder} holds no samples to calibrate on")
    return found


def _warnings(validation: SampleSet, test: SampleSet | None) -> tuple[str, ...]:
    """What has to be known of the splits.

    Raises:
        UserError: for one split as both.
    """
    said = []
    if tests := sorted({one.split for one in validation if one.split.lower().startswith("test")}):
        said.append(
            f"the samples are of the split {', '.join(tests)}: numbers of a test split on which something was chosen "
            f"are too high"
        )
    if test and fingerprint(validation.samples) == fingerprint(test.samples):
        raise UserError("the gain is measured on other samples than it was chosen on: give another split to --test")
    if test and (both := {one.image for one in validation} & {one.image for one in test}):
        said.append(f"{len(both)} pictures are in both splits, {min(both)} for one: the gain may be too high")
    return tuple(said)


def _listed(card: Card) -> tuple[str, ...]:
    """A warning for an adapter that was asked about all points in one turn: such answers have no probabilities."""
    if card.prompters.get("pqpp", {}).get("ask", "one") == "one":
        return ()
    return ("the adapter was asked by lists, whose answers have no thresholds: it is now asked about each point alone",)


def _numbers(swept: Swept | None, beside: Mapping[str, Setting], metric: str) -> dict[str, float]:
    """By what a setting is, where it was asked about and there is a number."""
    there = {name: setting for name, setting in beside.items() if swept and setting in swept.pixels}
    values = {name: swept.ratio(setting, metric).value for name, setting in there.items() if swept}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _gains(
    tested: Swept | None, beside: Mapping[str, Setting], choice: Choice
) -> dict[str, tuple[float, float, float]]:
    if tested is None:
        return {}
    ours, *others = (tested.ratio(setting, choice.metric) for setting in beside.values())
    return differences(
        dict.fromkeys((SAME, DEFAULT), ours),
        dict(zip((SAME, DEFAULT), others, strict=True)),
        tested.pictures,
        choice.bootstrap,
    )
