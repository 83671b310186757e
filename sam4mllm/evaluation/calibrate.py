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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from sam4mllm import __version__
from sam4mllm.runtime.files import check_file, check_folder, write_text
from sam4mllm.evaluation.threshold_sweep import PAPER, Setting, Survey, Swept, sweep
from sam4mllm.runtime.parallel import Here
from sam4mllm.errors import UserError
from sam4mllm.runtime.provenance import data
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.mllm.adapter_card import CARD, Card
from sam4mllm.pipeline import Pipeline
from sam4mllm.prediction.batch import Answering, predict_parts
from sam4mllm.prediction.store import Shard
from sam4mllm.prediction.run import Progress, settings_of
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.prompters.points import Layout, Sure
from sam4mllm.evaluation.bootstrap import Bootstrap, differences
from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet, read_samples
from sam4mllm.evaluation.scores import markdown, or_none, percent
from sam4mllm.evaluation.signature import fingerprint

SAME, DEFAULT = "the paper's thresholds", "uncalibrated"
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Choice:
    """Among what is chosen, and by which number.

    Attributes:
        layouts: the layouts, with their numbers of points.
        profile: a key of `metrics.PROFILES`.
        metric: one of the profile's numbers.
        thresholds: those of P(yes) and of P(no) that are tried with each other.
        bootstrap: of the interval of the gain.

    Raises:
        UserError: for no layouts, an unknown profile, or a number that it does not have.
    """

    layouts: tuple[Layout, ...]
    profile: str = "lavt"
    metric: str = "cIoU"
    thresholds: tuple[float, ...] = THRESHOLDS
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        metrics = profile_named(self.profile).metrics
        if self.metric not in metrics:
            raise UserError(f"{self.profile} has no number {self.metric!r}: choose from {', '.join(metrics)}")
        if not self.layouts:
            raise UserError("there is nothing to choose from: no layouts")

    @property
    def settings(self) -> list[Setting]:
        """All that are tried; the paper's thresholds are among them."""
        signs = dict.fromkeys([*product(self.thresholds, self.thresholds), (PAPER.sure.yes, PAPER.sure.no)])
        return [Setting(layout, Sure(*sign)) for layout in self.layouts for sign in signs]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was chosen, and what it is worth.

    Attributes:
        chosen: the setting that is now the adapter's.
        metric: the name of the number that it was chosen by.
        validation: the number of the chosen setting and of those that it is compared with, by what they are.
        test: the same on the test split; empty where there is none.
        gains: by how much the chosen setting is better on the test split, with the 95% interval's ends.
        counts: how many settings and samples there were, and how many masks were drawn for them.
        warnings: what has to be known of it, one line each.
    """

    chosen: Setting
    metric: str
    validation: Mapping[str, float]
    test: Mapping[str, float]
    gains: Mapping[str, tuple[float, float, float]]
    counts: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it, shares of 1."""
        gains = {name: [or_none(one) for one in apart] for name, apart in self.gains.items()}
        return {**asdict(self), "chosen": self.chosen.options, "gains": gains, "sam4mllm": __version__}

    def text(self) -> str:
        """A Markdown table, in percent, and the gains in points."""
        numbers = (self.validation, self.test)
        lines = [[f"PQPP, {self.metric}", "validation", "test", "chosen less this, on test", "95% interval"]]
        lines.append(["---", *["---:"] * 4])
        for name in ("calibrated", SAME, DEFAULT):
            shown = [percent(each.get(name, math.nan)) for each in numbers]
            gain = [f"{100 * one:+.2f}" for one in self.gains.get(name, ())]
            lines.append([name, *shown, *([gain[0], f"{gain[1]} to {gain[2]}"] if gain else ["-", "-"])])
        said = ", ".join(f"{name} {value}" for name, value in self.chosen.options.items())
        return f"{markdown(lines)}\nchosen from {self.counts['settings']} settings: {said}\n"


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
    asking = _Asking(recipe, choice.profile, batch_size, progress)
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


@dataclass(frozen=True, slots=True)
class _Asking:
    """Surveys with one recipe; the model is loaded where there is something left to ask."""

    recipe: Recipe
    profile: str
    batch_size: int
    progress: Progress

    def swept(self, samples: SampleSet, settings: Sequence[Setting], file: Path) -> tuple[Swept, tuple[str, ...]]:
        """The survey of a split, gone on with where it was stopped, and what each setting draws of it.

        What failed in an earlier run is asked again. What fails now is empty whatever is chosen, and is warned of.

        Raises:
            UserError: where every sample failed; and as `predict_parts` and `sweep` do.
        """
        layouts = list(dict.fromkeys(setting.layout for setting in settings))
        segmenter = self.recipe.build_segmenter()
        work = Answering(lambda _: Pipeline(Survey(self.recipe.build_mllm(), layouts), segmenter), self.batch_size)
        asks = {"layouts": " ".join(f"{layout.name}:{layout.points}" for layout in layouts)}
        made = settings_of(replace(self.recipe, prompter="survey", options=asks), samples, self.batch_size)
        with self.progress(len(samples), "asked") as advance:
            predict_parts(
                samples, work, Here(), file, Shard(), settings=made, progress=lambda _: advance(), retry_failed=True
            )
        said = read_predictions(file)
        failed = _failed(said)
        with self.progress(len(samples), "drawn") as advance:
            return sweep(samples, said, segmenter, settings, self.profile, advance), failed


def _failed(said: Sequence[Prediction]) -> tuple[str, ...]:
    """A warning of the samples that failed, if any did."""
    errors = [f"{one.id}: {one.error}" for one in said if one.error is not None]
    if len(errors) == len(said):
        raise UserError(f"nothing can be chosen, all {len(said)} samples failed; the first: {errors[0]}")
    count = f"{len(errors)} of {len(said)} samples failed, and are asked again by the same command; the first: "
    return (count + errors[0],) if errors else ()


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
