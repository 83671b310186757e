"""What `sam4mllm calibrate` does: chooses PQPP's options on a validation split and writes them into an adapter's card.

Adaptive PQPP keeps its own options: it asks about the points where answers are least certain, and thresholds chosen for
evenly placed points let too many wrong answers through.

The output folder, by default beside the adapter, holds the answers, from which a stopped run resumes, and a report:

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
    """Chooses PQPP's options on a validation split and writes them into the adapter's card.

    Args:
        recipe: names the adapter and the segmenter.
        choice: the settings to choose from, and the metric.
        samples: the validation split's folder.
        out: the output folder; None for ``calibration`` in the adapter's folder.
        batch_size: samples per batch of the model, 1 or more.
        progress: makes a progress bar.
        test: another split, on which the gain is measured; None for no gain.
        images: the root of the images of both splits, if they were moved.

    Raises:
        UserError: if the adapter has no card or was trained on a split, the two splits are the same, there are no
            samples, or something cannot be built, read or written.
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
    surveys = SurveyRunner(recipe, choice.profile, batch_size, progress)
    swept, failed = surveys.swept(validation, choice.settings, out / "asked.jsonl")
    chosen = swept.best(choice.metric)
    beside = {"calibrated": chosen, SAME: Setting(chosen.layout, PAPER.sure), DEFAULT: PAPER}
    tested = None
    if held_out:
        tested, lost = surveys.swept(held_out, list(dict.fromkeys(beside.values())), out / "test.jsonl")
        failed += lost
    calibrated = Calibrated(
        chosen,
        choice.metric,
        _numbers(swept, beside, choice.metric),
        _numbers(tested, beside, choice.metric),
        _gains(tested, beside, choice),
        {"settings": len(swept.pixels), "samples": len(validation), "masks": swept.drawn},
        (*warnings, *failed),
    )
    write_text(out / "report.json", json.dumps(calibrated.to_json(), indent=1, allow_nan=False) + "\n")
    replace(card, prompters={**card.prompters, "pqpp": chosen.options}).write(folder)
    return calibrated


def _card(recipe: Recipe) -> Card:
    card = Card.read(Path(recipe.adapter)) if recipe.adapter else None
    if card is None:
        raise UserError(f"what is chosen is kept in an adapter's {CARD}: give --adapter, a folder that holds one")
    return card


def _split(folder: Path, images: Path | None, card: Card) -> SampleSet:
    """The samples of a split, unless the adapter was trained on it."""
    samples = read_samples(folder, images)
    trained_on = {hashed: place for place, hashed in card.data.items()}
    for hashed in data([str(folder)]).values():
        if hashed in trained_on:
            raise UserError(
                f"the adapter was taught {folder} ({trained_on[hashed]} in its {CARD}): give a validation split"
            )
    if not len(samples):
        raise UserError(f"{folder} holds no samples to calibrate on")
    return samples


def _warnings(validation: SampleSet, test: SampleSet | None) -> tuple[str, ...]:
    """Warnings about the splits, one line each.

    Raises:
        UserError: if both are the same split.
    """
    messages = []
    if tests := sorted({sample.split for sample in validation if sample.split.lower().startswith("test")}):
        messages.append(
            f"the samples are of the split {', '.join(tests)}: numbers of a test split on which something was chosen "
            f"are too high"
        )
    if test and fingerprint(validation.samples) == fingerprint(test.samples):
        raise UserError("the gain is measured on other samples than it was chosen on: give another split to --test")
    if test and (both := {sample.image for sample in validation} & {sample.image for sample in test}):
        messages.append(f"{len(both)} pictures are in both splits, {min(both)} for one: the gain may be too high")
    return tuple(messages)


def _listed(card: Card) -> tuple[str, ...]:
    """A warning if the adapter was trained to answer about all points in one turn, which gives no probabilities."""
    if card.prompters.get("pqpp", {}).get("ask", "one") == "one":
        return ()
    return ("the adapter was asked by lists, whose answers have no thresholds: it is now asked about each point alone",)


def _numbers(swept: Swept | None, beside: Mapping[str, Setting], metric: str) -> dict[str, float]:
    """The metric of each setting by name, if the setting was surveyed and the metric is defined."""
    surveyed = {name: setting for name, setting in beside.items() if swept and setting in swept.pixels}
    values = {name: swept.ratio(setting, metric).value for name, setting in surveyed.items() if swept}
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
