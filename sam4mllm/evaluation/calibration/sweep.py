"""Compares PQPP's layouts, numbers of points and thresholds by the masks they give. Reads no files except images.

The model predicts the boxes of a sample and answers about the points of all layouts once (`Survey`). PQPP's prompts for
any layout and thresholds follow from these answers. Many thresholds give the same prompts, which are segmented once.

    >>> swept = sweep(samples, read_predictions(Path("out/asked.jsonl")), segmenter, settings, "lavt")
    >>> swept.best("cIoU")
    Setting(layout=Layout(name='grid', points=9), thresholds=Thresholds(yes=0.6, no=0.7))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Int64

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio, group_indices
from sam4mllm.evaluation.counts import CountColumns, PixelCounts
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.rle import Rle, union
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prediction.record import Prediction
from sam4mllm.prompters import PointAnswer, Prompting, Query
from sam4mllm.prompters.points import Layout, Thresholds, ask_boxes_and_points, classify_points
from sam4mllm.segmenters import Scene, Segmenter

AT_ONCE = 32
"""Prompts per call of the segmenter; bounds the memory."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A layout of points, and the thresholds for their answers."""

    layout: Layout
    thresholds: Thresholds

    @property
    def options(self) -> dict[str, str | int | float]:
        """The setting as arguments of `PQPP`."""
        return {
            "layout": self.layout.name,
            "points": self.layout.points,
            "sure_yes": self.thresholds.yes,
            "sure_no": self.thresholds.no,
        }

    def prompts(self, prediction: Prediction) -> tuple[Prompt, ...]:
        """The prompts that PQPP derives from a survey's answers.

        Raises:
            UserError: if the survey has no answer for a point of the layout.
        """
        answers = {(answer.object, answer.x, answer.y): answer for answer in prediction.point_answers}
        layout_answers: list[PointAnswer] = []
        for index, prompt in enumerate(prediction.prompts):
            for point in self.layout.place(prompt.extent):
                if (index, point.x, point.y) not in answers:
                    raise UserError(f"the survey of {prediction.id} lacks a point of {self.layout}")
                layout_answers.append(answers[index, point.x, point.y])
        return self.thresholds.certain_prompts(prediction.prompts, layout_answers)


PAPER = Setting(Layout("grid", 25), Thresholds())
"""PQPP's default without calibration: the thresholds of the paper's code."""


class Survey:
    """A prompter that requests boxes, then a label for each point of several layouts in each box.

    A point that several layouts share is labelled once.

    Args:
        mllm: the model that answers.
        layouts: the point layouts.
    """

    def __init__(self, mllm: MLLM, layouts: Sequence[Layout]) -> None:
        self.mllm, self.layouts = mllm, tuple(layouts)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query: the prompts are boxes; ``point_answers`` has one answer per point."""
        return ask_boxes_and_points(self.mllm, queries, self._ask)

    def _ask(self, chat: Chat, phrases: Sequence[str], promptings: Sequence[Prompting]) -> list[Prompting]:
        boxes = [
            replace(prompting, prompts=tuple(Prompt(prompt.extent) for prompt in prompting.prompts))
            for prompting in promptings
        ]
        points = [
            list(
                dict.fromkeys(
                    (index, point)
                    for index, prompt in enumerate(prompting.prompts)
                    for layout in self.layouts
                    for point in layout.place(prompt.extent)
                )
            )
            for prompting in boxes
        ]
        return classify_points(chat, self.mllm.dialect, phrases, boxes, points)


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """Pixel counts of each setting's masks, over the same expressions.

    Attributes:
        profile: a key of `metrics.PROFILES`.
        pixels: pixel counts by setting.
        images: the index of each expression's image.
        n_masks: number of segmented masks.
    """

    profile: str
    pixels: Mapping[Setting, CountColumns]
    images: Int64[np.ndarray, " n"]
    n_masks: int

    def ratio(self, setting: Setting, metric: str) -> Ratio:
        """The metric of a setting."""
        return profile_named(self.profile).ratios(self.pixels[setting])[metric]

    def best(self, metric: str) -> Setting:
        """The setting with the highest metric; ties go to fewer points, then to thresholds nearest to the paper's.

        Raises:
            UserError: if the metric is undefined for every setting.
        """
        values = {setting: self.ratio(setting, metric).value for setting in self.pixels}
        defined = [setting for setting, value in values.items() if not math.isnan(value)]
        if not defined:
            raise UserError(f"{metric} of {self.profile} is undefined on these samples: choose another metric")

        def rank(setting: Setting) -> tuple[float, int, float]:
            distance = abs(setting.thresholds.yes - PAPER.thresholds.yes) + abs(
                setting.thresholds.no - PAPER.thresholds.no
            )
            return values[setting], -setting.layout.points, -distance

        return max(defined, key=rank)


def sweep(
    samples: SampleSet,
    predictions: Sequence[Prediction],
    segmenter: Segmenter,
    settings: Sequence[Setting],
    profile: str,
    progress: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Segments the prompts that PQPP derives with each setting, and counts pixels.

    Args:
        samples: one or more samples with images and ground truth.
        predictions: the survey's predictions, in the order of the samples.
        segmenter: segments the prompts.
        settings: one or more settings, with layouts of the survey.
        profile: a key of `metrics.PROFILES`.
        progress: called after each sample.

    Raises:
        UserError: if an image cannot be used, or the survey has no answer for a point.
    """
    counts_by_setting: dict[Setting, list[PixelCounts]] = {setting: [] for setting in settings}
    rules, scenes, n_masks = profile_named(profile), _Scenes(samples, segmenter), 0
    for sample, prediction in zip(samples, predictions, strict=True):
        prompts_by_setting = {setting: setting.prompts(prediction) for setting in counts_by_setting}
        masks = _masks(sample, list(dict.fromkeys(prompts_by_setting.values())), scenes)
        counts = dict(zip(masks, rules.count_masks(sample, list(masks.values())), strict=True))
        for setting, prompts in prompts_by_setting.items():
            counts_by_setting[setting].append(counts[prompts])
        n_masks += len(masks)
        progress()
    pixels_by_setting = {setting: CountColumns.of(counts) for setting, counts in counts_by_setting.items()}
    return SweepResult(profile, pixels_by_setting, group_indices([sample.image for sample in samples]), n_masks)


class _Scenes:
    """Embeds images and caches the last one, since expressions of one image are usually adjacent."""

    def __init__(self, samples: SampleSet, segmenter: Segmenter) -> None:
        self._samples, self._segmenter = samples, segmenter
        self._last: tuple[str, Scene] | None = None

    def of(self, sample: Sample) -> Scene:
        if self._last is None or self._last[0] != sample.image:
            self._last = sample.image, self._segmenter.embed(self._samples.read_image(sample))
        return self._last[1]


def _masks(sample: Sample, prompt_sets: Sequence[tuple[Prompt, ...]], scenes: _Scenes) -> dict[tuple[Prompt, ...], Rle]:
    """The mask of each tuple of prompts. A prompt that several tuples share is segmented once."""
    distinct = iter(dict.fromkeys(prompt for prompts in prompt_sets for prompt in prompts))
    rles: dict[Prompt, Rle] = {}
    while chunk := list(islice(distinct, AT_ONCE)):
        segmented = scenes.of(sample).segment(chunk)
        rles.update((prompt, Rle.from_mask(result.mask)) for prompt, result in zip(chunk, segmented, strict=True))
    return {
        prompts: union([rles[prompt] for prompt in prompts], sample.height, sample.width) for prompts in prompt_sets
    }
