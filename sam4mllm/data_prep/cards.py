"""Cards of a preview: samples with their masks and, if given, their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.geometry.prompts import Image, iou
from sam4mllm.geometry.rle import Rle
from sam4mllm.images.overlay import overlay
from sam4mllm.report.html import HtmlCard, Panel
from sam4mllm.report.panels import check_size, make_panel, read_image_or_error
from sam4mllm.segmenters import Scene, Segmenter
from sam4mllm.targets.record import Target

IOU_TOLERANCE = 0.01  # the IoU of one prompt differs by less between machines


@dataclass(frozen=True, slots=True)
class PreviewCase:
    """What one card shows: one mask of a sample with its target, or all masks if ``index`` is None."""

    sample: Sample
    index: int | None = None
    target: Target | None = None

    @property
    def masks(self) -> tuple[Rle, ...]:
        """The masks on the card."""
        return self.sample.masks if self.index is None else (self.sample.masks[self.index],)

    @property
    def share(self) -> float:
        """The share of the image that the masks cover, 0..1. Overlaps count twice, up to 1 in total."""
        return min(sum(rle.area for rle in self.masks) / (self.sample.width * self.sample.height), 1.0)

    @property
    def has_prompt(self) -> bool:
        """Whether the target has a prompt."""
        return self.target is not None and bool(self.target.prompts)


def draw_cards(
    cases: Sequence[PreviewCase], samples: SampleSet, segmenter: Segmenter | None, advance: Callable[[], None]
) -> list[HtmlCard]:
    """One card for each case, in order. Each image is read and embedded once.

    Args:
        cases: what each card shows.
        samples: where their images are; an image that cannot be read leaves a card with the reason.
        segmenter: predicts masks from the targets' best prompts; None draws the prompts only.
        advance: called after each card.

    Raises:
        UserError: if the segmenter does not accept the prompts.
    """
    paths = [samples.path(case.sample) for case in cases]
    cards: dict[int, HtmlCard] = {}
    for path, indices in groupby(sorted(range(len(cases)), key=paths.__getitem__), paths.__getitem__):
        file_image, scene = read_image_or_error(path), None
        for index in indices:
            case, image = cases[index], file_image
            if not isinstance(image, str):
                image = check_size(image, case.sample.width, case.sample.height)
            if isinstance(image, str):
                cards[index] = _make_card(case, (), image, None)
            else:
                if scene is None and segmenter is not None and case.has_prompt:
                    scene = segmenter.embed(image)
                cards[index] = _draw_card(case, image, scene)
            advance()
    return [cards[index] for index in range(len(cases))]


def _draw_card(case: PreviewCase, image: Image, scene: Scene | None) -> HtmlCard:
    """A card with the ground truth, the best prompt and the mask predicted from it."""
    masks = [rle.mask for rle in case.masks]
    panels = [make_panel(overlay(image, [], masks), "ground truth" if masks else "no target")]
    predicted_iou = None
    if case.target is not None and case.target.prompts:
        best = case.target.prompts[:1]
        predicted = [] if scene is None else [answer.mask for answer in scene.segment(best)]
        panels.append(make_panel(overlay(image, best, predicted), "prompt and its mask" if predicted else "prompt"))
        predicted_iou = iou(predicted[0], masks[0]) if predicted else None
    return _make_card(case, tuple(panels), _fault(case), predicted_iou)


def _make_card(case: PreviewCase, panels: tuple[Panel, ...], fault: str, predicted_iou: float | None) -> HtmlCard:
    stored_iou = None if case.target is None else case.target.ceiling
    facts = _facts(case)
    if stored_iou is not None and predicted_iou is not None:
        facts.insert(0, f"stored IoU {stored_iou:.3f}")
        if not fault and abs(stored_iou - predicted_iou) > IOU_TOLERANCE:
            fault = "IoU differs from the stored one: the targets are of another segmenter"
    return HtmlCard(
        phrase=case.sample.phrase,
        sample_id=case.sample.id,
        facts=tuple(facts),
        panels=panels,
        fault=fault,
        iou=stored_iou if predicted_iou is None else predicted_iou,
        iou_label="stored IoU" if predicted_iou is None else "IoU, segmented now",
    )


def _facts(case: PreviewCase) -> list[str]:
    """A few words each about the mask, the prompts and the phrase."""
    sample, facts = case.sample, []
    if case.index is not None and len(sample.masks) > 1:
        facts.append(f"object {case.index + 1} of {len(sample.masks)}")
    elif len(case.masks) > 1:
        facts.append(f"{len(case.masks)} objects")
    facts += [f"{case.share:.1%} of the image"] if case.masks else []
    if case.target is not None and case.target.prompts:
        points = case.target.prompts[0].points
        positive = sum(point.positive for point in points)
        facts.append(f"{positive} positive, {len(points) - positive} negative points")
        facts += [f"{len(case.target.prompts) - 1} more prompts"] if len(case.target.prompts) > 1 else []
    facts += [f"{sample.ignore.area / (sample.width * sample.height):.1%} ignored"] if sample.ignore else []
    facts += [sample.kind] if sample.kind != "phrase" else []
    facts += [f"as written: {sample.raw}"] if sample.raw not in ("", sample.phrase) else []
    return facts


def _fault(case: PreviewCase) -> str:
    """The problem of a case with a readable image; empty without one."""
    if any(not rle.area for rle in case.masks):
        return "a mask is empty"
    if case.target is not None and not case.target.prompts:
        return "no candidate reached the minimum IoU: the target has no prompt"
    return ""
