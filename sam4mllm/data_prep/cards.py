"""Samples and targets as cards of a contact sheet: what is drawn, and what is said beside it. Knows nothing of HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.geometry.prompts import Image, iou
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.overlay import overlay
from sam4mllm.report.html import Card, Panel
from sam4mllm.report.panels import checked, panel, picture_or_why
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.targets.record import Target

SAME = 0.01  # machines differ by less in the IoU of one prompt
UNLIKE = "redrawn unlike what is stored: the targets are of another segmenter"


@dataclass(frozen=True, slots=True)
class Case:
    """What one card shows: a mask of a sample with its target, or a whole sample where ``index`` is None."""

    sample: Sample
    index: int | None = None
    target: Target | None = None

    @property
    def masks(self) -> tuple[Rle, ...]:
        """The masks that it is about."""
        return self.sample.masks if self.index is None else (self.sample.masks[self.index],)

    @property
    def share(self) -> float:
        """The share of the picture that the masks cover, 0..1; masks that overlap count twice, up to all of it."""
        return min(sum(rle.area for rle in self.masks) / (self.sample.width * self.sample.height), 1.0)

    @property
    def prompted(self) -> bool:
        """Whether its target keeps a prompt."""
        return self.target is not None and bool(self.target.prompts)


def cards_of(
    cases: Sequence[Case], samples: SampleSet, segmenter: Segmenter | None, advance: Callable[[], None]
) -> list[Card]:
    """One card for each case, in order; each picture is read and embedded once.

    Args:
        cases: of the samples.
        samples: where their pictures are; one that cannot be read leaves a card that says why.
        segmenter: redraws the masks from the targets' best prompts; not where None.
        advance: called after each card.

    Raises:
        UserError: where the segmenter cannot take the prompts.
    """
    paths = [samples.path(case.sample) for case in cases]
    found: dict[int, Card] = {}
    for path, numbers in groupby(sorted(range(len(cases)), key=paths.__getitem__), paths.__getitem__):
        image, scene = picture_or_why(path), None
        for number in numbers:
            case = cases[number]
            seen = image if isinstance(image, str) else checked(image, case.sample.width, case.sample.height)
            if isinstance(seen, str):
                found[number] = _card(case, (), seen, None)
            else:
                if scene is None and segmenter is not None and case.prompted:
                    scene = segmenter.embed(seen)
                found[number] = _seen(case, seen, scene)
            advance()
    return [found[number] for number in range(len(cases))]


def _seen(case: Case, image: Image, scene: Scene | None) -> Card:
    """The card of a picture that can be read: the truth beside the best prompts and what they draw."""
    masks = [rle.mask for rle in case.masks]
    panels = [panel(overlay(image, [], masks), "true mask" if masks else "nothing is meant")]
    redrawn = None
    if case.target is not None and case.target.prompts:
        best = case.target.prompts[:1]
        drawn = [] if scene is None else [each.mask for each in scene.segment(best)]
        panels.append(panel(overlay(image, best, drawn), "prompts and what they redraw" if drawn else "prompts"))
        redrawn = iou(drawn[0], masks[0]) if drawn else None
    return _card(case, tuple(panels), _fault(case), redrawn)


def _card(case: Case, panels: tuple[Panel, ...], fault: str, redrawn: float | None) -> Card:
    stored = None if case.target is None else case.target.ceiling
    facts = _facts(case)
    if stored is not None and redrawn is not None:
        facts.insert(0, f"stored IoU {stored:.3f}")
        fault = fault or (UNLIKE if abs(stored - redrawn) > SAME else "")
    return Card(
        phrase=case.sample.phrase,
        name=case.sample.id,
        facts=tuple(facts),
        panels=panels,
        fault=fault,
        iou=stored if redrawn is None else redrawn,
        iou_word="IoU as stored" if redrawn is None else "IoU, redrawn now",
    )


def _facts(case: Case) -> list[str]:
    """A few words each: of the mask, of the prompts, of the phrase."""
    sample, facts = case.sample, []
    if case.index is not None and len(sample.masks) > 1:
        facts.append(f"object {case.index + 1} of {len(sample.masks)}")
    elif len(case.masks) > 1:
        facts.append(f"{len(case.masks)} objects")
    facts += [f"{case.share:.1%} of the picture"] if case.masks else []
    if case.target is not None and case.target.prompts:
        points = case.target.prompts[0].points
        on = sum(point.positive for point in points)
        facts.append(f"{on} on, {len(points) - on} off")
        facts += [f"{len(case.target.prompts) - 1} more kept"] if len(case.target.prompts) > 1 else []
    facts += [f"ignores {sample.ignore.area / (sample.width * sample.height):.1%}"] if sample.ignore else []
    facts += [sample.kind] if sample.kind != "phrase" else []
    facts += [f"as written: {sample.raw}"] if sample.raw not in ("", sample.phrase) else []
    return facts


def _fault(case: Case) -> str:
    """What is wrong with a case whose picture is sound."""
    if any(not rle.area for rle in case.masks):
        return "a mask is empty"
    if case.target is not None and not case.target.prompts:
        return "no candidate reached the least IoU: nothing is kept"
    return ""
