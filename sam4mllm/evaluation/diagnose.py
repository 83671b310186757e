"""Which stage lost the IoU of each expression: the truth is swapped in stage by stage, and what it leaves is drawn.

The states and their order are those of `swaps`; a stage lost what the IoU rises by when it is mended. The first term is
what the recorded mask lacks against its own prompts, drawn again: 0 by the segmenter that predicted. The last, the
``segmenter``'s, is what true boxes and true labels still lack: its ceiling. A sample that failed lost all of it as
``failed``: where nothing was answered, nothing can be mended. IoUs are whole numbers over whole numbers, so the terms
add up exactly. Knows no talker.

    >>> diagnose(samples, predictions, segmenter, "rela")
    [Entry(id='a', iou=Fraction(3, 4), lost={'loose box': Fraction(1, 3), 'segmenter': Fraction(-1, 12)}), ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from sam4mllm.geometry.prompts import Prompt
from sam4mllm.evaluation.attribution import Entry
from sam4mllm.evaluation.metrics import Profile, Truth, profile_named
from sam4mllm.prediction.record import Prediction
from sam4mllm.geometry.rle import Rle, union
from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.segmenters import Segmenter
from sam4mllm.evaluation.oracle_swaps import FAILED, SEGMENTER, STATES, swapped
from sam4mllm.evaluation.pairing import Places, tally

ALIKE = Fraction(1, 100)  # machines differ by less in the IoU of one prompt


def diagnose(
    samples: SampleSet,
    predictions: Sequence[Prediction],
    segmenter: Segmenter,
    profile: str,
    advance: Callable[[], None] = lambda: None,
    places: Places | None = None,
) -> list[Entry]:
    """One entry for each sample, in their order; each picture is read and embedded once, if anything is drawn in it.

    Args:
        samples: with the truth; one picture is held at a time.
        predictions: one for each sample and no others, in any order.
        segmenter: that drew the predictions.
        profile: whose rules count pixels and say what an empty mask is worth, a key of `metrics.PROFILES`.
        advance: called after each sample.
        places: where the predictions stand, for messages.

    Raises:
        UserError: as `tally` does; for a picture that cannot be read although it was answered; for prompts that the
            segmenter cannot take.
    """
    tally(samples.samples, predictions, profile, places)
    rules, said = profile_named(profile), {one.id: one for one in predictions}
    found: dict[str, Entry] = {}
    for some in samples.by_picture():
        states = {one.id: swapped(one, said[one.id]) for one in some if said[one.id].error is None}
        drawn = _drawn(some, states, segmenter)
        for sample in some:
            found[sample.id] = _entry(sample, said[sample.id], states.get(sample.id), drawn, rules)
            advance()
    return [found[sample.id] for sample in samples]


def _drawn(
    some: SampleSet, states: Mapping[str, Sequence[tuple[Prompt, ...]]], segmenter: Segmenter
) -> dict[Prompt, Rle]:
    """The mask of each prompt of one picture; equal ones are drawn once."""
    prompts = list(dict.fromkeys(prompt for each in states.values() for state in each for prompt in state))
    if not prompts:
        return {}
    scene = segmenter.embed(some.picture(*some))
    return {prompt: Rle.from_mask(one.mask) for prompt, one in zip(prompts, scene.segment(prompts), strict=True)}


def _entry(
    sample: Sample,
    prediction: Prediction,
    states: Sequence[tuple[Prompt, ...]] | None,
    drawn: Mapping[Prompt, Rle],
    rules: Profile,
) -> Entry:
    """The difference of each two IoUs in a row; the last is what is missing to 1."""
    size = sample.height, sample.width
    redrawn = [union([drawn[prompt] for prompt in state], *size) for state in states or ()]
    first, *rest = _ious(sample, [prediction.counted, *redrawn], rules)
    ends = [*rest, Fraction(1)]
    stages = (*STATES, SEGMENTER) if states is not None else (FAILED,)
    terms = [after - before for before, after in zip([first, *rest], ends, strict=True)]
    return Entry(sample.id, first, {stage: term for stage, term in zip(stages, terms, strict=True) if term})


def _ious(sample: Sample, masks: Sequence[Rle], rules: Profile) -> list[Fraction]:
    truth = Truth(sample.masks, sample.height, sample.width, sample.ignore)
    pixels = rules.count([truth] * len(masks), [(mask.size, mask.counts) for mask in masks])
    return [rules.iou(counts) for counts in pixels.rows]
