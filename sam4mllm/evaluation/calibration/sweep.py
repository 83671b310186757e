"""PQPP's layout, number of points and thresholds, chosen by what they draw. Knows nothing of files but pictures.

A model is asked once about each sample: for its boxes, and about the points of all layouts (`Survey`). What PQPP would
draw with any of them and any thresholds follows from the answers without asking again; most thresholds keep the same
points, and each set of points is drawn once.

    >>> swept = sweep(samples, read_predictions(Path("out/asked.jsonl")), segmenter, settings, "lavt")
    >>> swept.best("cIoU")
    Setting(layout=Layout(name='grid', points=9), sure=Sure(yes=0.6, no=0.7))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Int64

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Ratio, numbered
from sam4mllm.evaluation.counts import CountColumns, GroundTruth
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.geometry.prompts import Prompt
from sam4mllm.geometry.rle import Rle, union
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.prediction.record import Prediction
from sam4mllm.prompters import Asked, Prompting, Query
from sam4mllm.prompters.points import Layout, Sure, ask_each, boxes_then
from sam4mllm.segmenters import Scene, Segmenter

AT_ONCE = 32
"""How many masks are drawn at once: what bounds the memory."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How PQPP asks, and which answers it keeps."""

    layout: Layout
    sure: Sure

    @property
    def options(self) -> dict[str, str | int | float]:
        """As the constructor of `PQPP` takes them."""
        return {
            "layout": self.layout.name,
            "points": self.layout.points,
            "sure_yes": self.sure.yes,
            "sure_no": self.sure.no,
        }

    def prompts(self, prediction: Prediction) -> tuple[Prompt, ...]:
        """What PQPP would have made of a survey's answers.

        Raises:
            UserError: where a point of the layout was not asked about.
        """
        answers = {(one.object, one.x, one.y): one for one in prediction.asked}
        asked: list[Asked] = []
        for index, prompt in enumerate(prediction.prompts):
            for point in self.layout.lay(prompt.box):
                if (index, point.x, point.y) not in answers:
                    raise UserError(f"{prediction.id} was not asked about all {self.layout.points} points of a layout")
                asked.append(answers[index, point.x, point.y])
        return self.sure.kept(prediction.prompts, asked)


PAPER = Setting(Layout("grid", 25), Sure())
"""PQPP as it is asked where nothing was calibrated, with the thresholds of the paper's code."""


class Survey:
    """Asks for the boxes, then about the points of several layouts inside each, those that are the same once.

    Args:
        mllm: who is asked.
        layouts: whose points.
    """

    def __init__(self, mllm: MLLM, layouts: Sequence[Layout]) -> None:
        self.mllm, self.layouts = mllm, tuple(layouts)

    def __call__(self, queries: Sequence[Query]) -> list[Prompting]:
        """One `Prompting` per query; its prompts are the boxes alone, and ``asked`` holds every point."""
        return boxes_then(self.mllm, queries, self._ask)

    def _ask(self, chat: Chat, phrases: Sequence[str], found: Sequence[Prompting]) -> list[Prompting]:
        found = [replace(one, prompts=tuple(Prompt(prompt.box) for prompt in one.prompts)) for one in found]
        laid = [
            list(
                dict.fromkeys(
                    (index, point)
                    for index, prompt in enumerate(one.prompts)
                    for layout in self.layouts
                    for point in layout.lay(prompt.box)
                )
            )
            for one in found
        ]
        return ask_each(chat, self.mllm.dialect, phrases, found, laid)


@dataclass(frozen=True, slots=True, eq=False)
class Swept:
    """What each setting draws of the same expressions, counted.

    Attributes:
        profile: whose conventions, a key of `metrics.PROFILES`.
        pixels: by setting.
        pictures: the number of each expression's picture.
        drawn: how many masks were drawn for all of it.
    """

    profile: str
    pixels: Mapping[Setting, CountColumns]
    pictures: Int64[np.ndarray, " n"]
    drawn: int

    def ratio(self, setting: Setting, metric: str) -> Ratio:
        """The number of a setting."""
        return profile_named(self.profile).ratios(self.pixels[setting])[metric]

    def best(self, metric: str) -> Setting:
        """The setting with the highest number; of equal ones that of the fewest points, nearest to the paper's.

        Raises:
            UserError: where no setting has a number.
        """
        values = {setting: self.ratio(setting, metric).value for setting in self.pixels}
        there = [setting for setting, value in values.items() if not math.isnan(value)]
        if not there:
            raise UserError(
                f"{metric} of {self.profile} has nothing to stand on in these samples: choose another number"
            )

        def rank(setting: Setting) -> tuple[float, int, float]:
            apart = abs(setting.sure.yes - PAPER.sure.yes) + abs(setting.sure.no - PAPER.sure.no)
            return values[setting], -setting.layout.points, -apart

        return max(there, key=rank)


def sweep(
    samples: SampleSet,
    predictions: Sequence[Prediction],
    segmenter: Segmenter,
    settings: Sequence[Setting],
    profile: str,
    progress: Callable[[], None] = lambda: None,
) -> Swept:
    """Draw what each setting would have been drawn by PQPP, and count it.

    Args:
        samples: with pictures and truth; one or more.
        predictions: a survey's, one for each sample in their order.
        segmenter: draws.
        settings: one or more, of layouts that the survey asked about.
        profile: a key of `metrics.PROFILES`.
        progress: called after each sample.

    Raises:
        UserError: for a picture that cannot be used, and points that were not asked about.
    """
    counted = {setting: CountColumns.empty(len(samples)) for setting in settings}
    scene = _Scenes(samples, segmenter)
    drawn = 0
    for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        kept = {setting: setting.prompts(prediction) for setting in counted}
        masks = _masks(sample, list(dict.fromkeys(kept.values())), scene)
        truth = GroundTruth(sample.masks, sample.height, sample.width, sample.ignore)
        found = profile_named(profile).count([truth] * len(masks), [(one.size, one.counts) for one in masks.values()])
        place = {prompts: index for index, prompts in enumerate(masks)}
        for setting, prompts in kept.items():
            counted[setting].put(np.array([row]), found[np.array([place[prompts]])])
        drawn += len(masks)
        progress()
    return Swept(profile, counted, numbered([sample.image for sample in samples]), drawn)


class _Scenes:
    """The last picture that was drawn in, embedded: expressions of one picture as a rule follow each other."""

    def __init__(self, samples: SampleSet, segmenter: Segmenter) -> None:
        self._samples, self._segmenter = samples, segmenter
        self._last: tuple[str, Scene] | None = None

    def of(self, sample: Sample) -> Scene:
        if self._last is None or self._last[0] != sample.image:
            self._last = sample.image, self._segmenter.embed(self._samples.picture(sample))
        return self._last[1]


def _masks(sample: Sample, wanted: Sequence[tuple[Prompt, ...]], scenes: _Scenes) -> dict[tuple[Prompt, ...], Rle]:
    """The mask of each set of prompts, every prompt drawn once."""
    prompts = iter(dict.fromkeys(prompt for each in wanted for prompt in each))
    rles: dict[Prompt, Rle] = {}
    for some in _lots(prompts):
        masks = scenes.of(sample).segment(some)
        rles.update((prompt, Rle.from_mask(one.mask)) for prompt, one in zip(some, masks, strict=True))
    return {each: union([rles[prompt] for prompt in each], sample.height, sample.width) for each in wanted}


def _lots(prompts: Iterator[Prompt]) -> Iterator[list[Prompt]]:
    while some := list(islice(prompts, AT_ONCE)):
        yield some
