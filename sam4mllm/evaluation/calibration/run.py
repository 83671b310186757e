"""The `sam4mllm calibrate` command: chooses PQPP's options on a validation split and writes them to the adapter's card.

Adaptive PQPP does not use these options. It queries the least certain points, and thresholds chosen for evenly placed
points are too lenient for uncertain ones.

The output folder, by default ``calibration`` in the adapter's folder, holds the answers and a report. A stopped run
resumes from the answers:

    calibration/asked.jsonl   validation split: the answer for each surveyed point, one prediction record per sample
    calibration/test.jsonl    the same for the test split, with only the points of the compared settings
    calibration/report.json   {"chosen": {"layout": "grid", "points": 9, "sure_yes": 0.6, "sure_no": 0.7}, ...}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet, read_samples
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import differences
from sam4mllm.evaluation.calibration.choice import DEFAULT, PAPER_THRESHOLDS, Calibration, SearchSpace
from sam4mllm.evaluation.calibration.survey import SurveyRunner
from sam4mllm.evaluation.calibration.sweep import PAPER, Setting, SweepResult
from sam4mllm.evaluation.signature import fingerprint
from sam4mllm.mllm.adapter_card import CARD, AdapterCard
from sam4mllm.runtime.files import check_file, check_folder, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.runtime.provenance import hash_indices


def calibrate(
    config: PipelineConfig,
    search_space: SearchSpace,
    samples: Path,
    out: Path | None,
    batch_size: int,
    progress: Progress,
    test: Path | None = None,
    images: Path | None = None,
) -> Calibration:
    """Chooses PQPP's options on a validation split and writes them into the adapter's card.

    Args:
        config: configuration with the adapter and the segmenter.
        search_space: the settings to choose from, and the metric.
        samples: folder of the validation split.
        out: the output folder; None for ``calibration`` in the adapter's folder.
        batch_size: samples per batch of the model, at least 1.
        progress: makes a progress bar.
        test: folder of another split, on which the gain is measured; None skips it.
        images: root of the images of both splits, if they were moved.

    Raises:
        UserError: if the adapter has no card or was trained on a split, both splits are the same or one is empty, or
            a model or file cannot be used.
    """
    card, folder = _card(config), Path(config.adapter or "")
    config = replace(config, prompter="pqpp").resolved()
    config.check()
    out = out or folder / "calibration"
    check_folder(out)
    check_file(folder / CARD)
    validation = _split(samples, images, card)
    held_out = _split(test, images, card) if test else None
    warnings = _warnings(validation, held_out, card)
    surveys = SurveyRunner(config, search_space.profile, batch_size, progress)
    swept, failed = surveys.run_survey(validation, search_space.settings, out / "asked.jsonl")
    chosen = swept.best(search_space.metric)
    compared = {"calibrated": chosen, PAPER_THRESHOLDS: Setting(chosen.layout, PAPER.thresholds), DEFAULT: PAPER}
    tested = None
    if held_out:
        tested, test_failed = surveys.run_survey(held_out, list(dict.fromkeys(compared.values())), out / "test.jsonl")
        failed += test_failed
    calibrated = Calibration(
        chosen,
        search_space.metric,
        _metrics_by_name(swept, compared, search_space.metric),
        _metrics_by_name(tested, compared, search_space.metric),
        _gains(tested, compared, search_space),
        {"settings": len(swept.pixels), "samples": len(validation), "masks": swept.n_masks},
        (*warnings, *failed),
    )
    write_text(out / "report.json", json.dumps(calibrated.to_json(), indent=1, allow_nan=False) + "\n")
    replace(card, prompters={**card.prompters, "pqpp": chosen.options}).write(folder)
    return calibrated


def _card(config: PipelineConfig) -> AdapterCard:
    card = AdapterCard.read(Path(config.adapter)) if config.adapter else None
    if card is None:
        raise UserError(f"calibrate writes to the adapter's {CARD}: pass --adapter with a folder that has this file")
    return card


def _split(folder: Path, images: Path | None, card: AdapterCard) -> SampleSet:
    """The samples of a split; refuses a split that the adapter was trained on."""
    samples = read_samples(folder, images)
    trained_on = {hashed: place for place, hashed in card.data.items()}
    for hashed in hash_indices([str(folder)]).values():
        if hashed in trained_on:
            raise UserError(
                f"the adapter was trained on {folder} ({trained_on[hashed]} in its {CARD}): pass a validation split"
            )
    if not len(samples):
        raise UserError(f"{folder} has no samples")
    return samples


def _warnings(validation: SampleSet, test: SampleSet | None, card: AdapterCard) -> tuple[str, ...]:
    """Warnings about the splits and the adapter, one line each.

    Raises:
        UserError: if both are the same split.
    """
    messages = []
    if tests := sorted({sample.split for sample in validation if sample.split.lower().startswith("test")}):
        messages.append(
            f"the validation samples belong to the split {', '.join(tests)}: scores of a test split that was used for "
            f"calibration are too high"
        )
    if test and fingerprint(validation.samples) == fingerprint(test.samples):
        raise UserError("--test is the validation split: pass another split to measure the gain on")
    if test and (shared := {sample.image for sample in validation} & {sample.image for sample in test}):
        messages.append(f"{len(shared)} images are in both splits, for example {min(shared)}: the gain may be too high")
    if card.prompters.get("pqpp", {}).get("ask", "one") != "one":
        messages.append(
            "the adapter labels all points in one reply, without probabilities: calibration queries each point "
            "separately"
        )
    return tuple(messages)


def _metrics_by_name(swept: SweepResult | None, compared: Mapping[str, Setting], metric: str) -> dict[str, float]:
    """The metric of each setting by name, if the setting was surveyed and the metric is defined."""
    if swept is None:
        return {}
    surveyed = {name: setting for name, setting in compared.items() if setting in swept.pixels}
    values = {name: swept.ratio(setting, metric).value for name, setting in surveyed.items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _gains(
    tested: SweepResult | None, compared: Mapping[str, Setting], search_space: SearchSpace
) -> dict[str, tuple[float, float, float]]:
    if tested is None:
        return {}
    calibrated, *references = (tested.ratio(setting, search_space.metric) for setting in compared.values())
    return differences(
        dict.fromkeys((PAPER_THRESHOLDS, DEFAULT), calibrated),
        dict(zip((PAPER_THRESHOLDS, DEFAULT), references, strict=True)),
        tested.images,
        search_space.bootstrap,
    )
