"""One split as a self-contained HTML page: images, phrases, masks, prompts, and the masks that the prompts give.

    sam4mllm data preview data/refcoco/val --out val.html
    sam4mllm data preview data/refcoco/val --targets data/refcoco/val-targets --segmenter tiny --out val.html

Cards are sorted by the best IoU that their target reached, lowest first. Images that cannot be read are listed, and
keep their card.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from sam4mllm.data import conversations
from sam4mllm.data.samples import INDEX, Sample, SampleSet, read_samples
from sam4mllm.data_prep.cards import PreviewCase, draw_cards
from sam4mllm.errors import UserError
from sam4mllm.report.figures import Histogram, count_in_parts, count_numbers
from sam4mllm.report.html import ChartGrid, FoldedList, HtmlCard, HtmlTable, PageSection, Tiles, render_page
from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.segmenters import Segmenter
from sam4mllm.targets.record import Target, read_targets

MAX_WORST = 20
_SORTED = "By the best IoU of any candidate, lowest first."

TargetsByMask = Mapping[tuple[str, int], Target]
"""Targets by sample id and index of the mask."""


def make_cases(samples: Sequence[Sample], targets: TargetsByMask | None) -> list[PreviewCase]:
    """One case per sample; with targets, one case per mask, and one per sample without masks."""
    if targets is None:
        return [PreviewCase(sample) for sample in samples]
    cases = []
    for sample in samples:
        masks = range(len(sample.masks))
        cases += [PreviewCase(sample, index, targets.get((sample.id, index))) for index in masks]
        cases += [] if masks else [PreviewCase(sample)]
    return cases


def choose_cases(
    cases: Sequence[PreviewCase], limit: int
) -> tuple[list[PreviewCase], list[PreviewCase], list[PreviewCase]]:
    """The worst cases with a prompt, the worst without, and an even choice of all others, in order.

    The worst have the lowest best IoUs, lowest first; ties keep their order. Cases without a prompt are chosen last
    and separately, so that they do not crowd out the others.
    """
    ranked = sorted((case.target.ceiling, index) for index, case in enumerate(cases) if case.target is not None)
    prompted, unprompted = ([index for _, index in ranked if cases[index].has_prompt == has] for has in (True, False))
    worst = prompted[: min(MAX_WORST, limit)]
    without = unprompted[: min(MAX_WORST, limit - len(worst))]
    remaining = [case for index, case in enumerate(cases) if index not in {*worst, *without}]
    count = min(limit - len(worst) - len(without), len(remaining))
    chosen = [remaining[index * len(remaining) // count] for index in range(count)]
    return [cases[index] for index in worst], [cases[index] for index in without], chosen


def render_preview(
    samples: SampleSet,
    title: str,
    targets: TargetsByMask | None = None,
    segmenter: Segmenter | None = None,
    limit: int = 60,
    advance: Callable[[], None] = lambda: None,
) -> str:
    """The page of one split as HTML; the same values give the same text.

    Args:
        samples: samples with their image root; images may be missing.
        title: of the page.
        targets: of these samples; None shows the samples with their masks only.
        segmenter: predicts masks from the targets' best prompts; None shows the stored IoUs only.
        limit: maximum number of cards, 1 or more.
        advance: called after each card.

    Raises:
        UserError: if the segmenter does not accept the prompts.
    """
    cases = make_cases(samples.samples, targets)
    worst, without, other_cases = choose_cases(cases, limit)
    cards = draw_cards([*without, *worst, *other_cases], samples, segmenter, advance)
    ends = len(without), len(without) + len(worst)
    targets_of_cases = [case.target for case in cases if case.target is not None]
    heading = "Other samples" if worst or without else "Samples"
    return render_page(
        title,
        _notes(targets, segmenter),
        [
            _headline(samples.samples, targets_of_cases),
            *_problems(samples, cases, targets, cards),
            ChartGrid(_charts(cases, None if targets is None else targets_of_cases)),
            _tabulate_splits(samples.samples),
            PageSection(f"Worst {len(without)} without a prompt", _SORTED, cards[: ends[0]]),
            PageSection(f"Worst {len(worst)}", f"Targets with a prompt. {_SORTED}", cards[ends[0] : ends[1]]),
            PageSection(heading, _count_shown(len(other_cases), len(cases) - ends[1]), cards[ends[1] :]),
        ],
    )


def _notes(targets: TargetsByMask | None, segmenter: Segmenter | None) -> list[str]:
    if targets is None:
        return ["Samples with their ground-truth masks. Prompts and IoUs need targets."]
    source = (
        "No segmenter was given: IoUs are the stored ones, and no mask is predicted."
        if segmenter is None
        else "Each is shown with the mask that the segmenter predicts from it now."
    )
    return [
        f"Targets are the prompts that reproduce each mask best. {source}",
        "A plus on green is a positive point, a minus on red a negative point.",
    ]


def _count_shown(count: int, total: int) -> str:
    return f"All {total:,}, in order." if count == total else f"{count:,} of {total:,}, evenly spaced, in order."


def _headline(samples: Sequence[Sample], targets: Sequence[Target]) -> Tiles:
    numbers = [
        (f"{len(samples):,}", "expressions"),
        (f"{len({sample.image for sample in samples}):,}", "images"),
        (f"{sum(len(sample.masks) for sample in samples):,}", "masks"),
        (f"{sum(not sample.masks for sample in samples):,}", "expressions without a target"),
    ]
    if targets:
        with_prompt = sum(bool(target.prompts) for target in targets)
        numbers += [
            (f"{with_prompt / len(targets):.1%}", "of the targets have prompts"),
            (f"{fmean(target.ceiling for target in targets):.3f}", "mean best IoU"),
        ]
    return Tiles(numbers)


def _tabulate_splits(samples: Sequence[Sample]) -> HtmlTable:
    """Counts for each split of each dataset."""
    rows = []
    for source, split in sorted({(sample.source, sample.split) for sample in samples}):
        members = [sample for sample in samples if (sample.source, sample.split) == (source, split)]
        counts = (
            len(members),
            len({sample.image for sample in members}),
            sum(len(sample.masks) for sample in members),
            sum(len(sample.masks) > 1 for sample in members),
            sum(not sample.masks for sample in members),
        )
        rows.append([source, split, *(f"{count:,}" for count in counts)])
    head = ["dataset", "split", "expressions", "images", "masks", "with several objects", "without a target"]
    return HtmlTable("Samples by split", head, rows, text_columns=2)


def _problems(
    samples: SampleSet, cases: Sequence[PreviewCase], targets: TargetsByMask | None, cards: Sequence[HtmlCard]
) -> list[FoldedList]:
    """Everything that is missing, empty or unusable, by name."""
    images = sorted({sample.image for sample in samples})
    masks = [case for case in cases if case.index is not None]
    present = {(case.sample.id, case.index) for case in masks}
    without = [case for case in masks if case.target and not case.target.prompts and case.masks[0].area]
    unknown = [f"{sample_id}, mask {index}" for sample_id, index in targets or () if (sample_id, index) not in present]
    empty = [sample.id for sample in samples if not all(mask.area for mask in sample.masks)]
    return [
        FoldedList("Missing images", [image for image in images if not (samples.images / image).is_file()]),
        FoldedList(
            "Cards whose image cannot be used",
            [f"{card.sample_id}: {card.fault}" for card in cards if not card.panels],
        ),
        FoldedList("Expressions with an empty mask", empty),
        FoldedList("Masks without a target", [_mask_name(case) for case in masks if case.target is None]),
        FoldedList("Masks without a prompt that reaches the minimum IoU", [_mask_name(case) for case in without]),
        FoldedList("Targets of unknown masks", unknown),
    ]


def _mask_name(case: PreviewCase) -> str:
    return f"{case.sample.id}, mask {case.index}"


def _charts(cases: Sequence[PreviewCase], targets: Sequence[Target] | None) -> list[Histogram]:
    """Histograms of sizes, objects and, with targets, IoUs and points."""
    sizes = count_in_parts([math.sqrt(case.share) for case in cases if case.masks])  # areas would crowd at the left
    samples = {case.sample.id: case.sample for case in cases}.values()
    objects = count_numbers([len(sample.masks) for sample in samples])
    size_chart = Histogram("Object size (√ of its share of the image)", sizes, ("0", "1"))
    object_chart = Histogram("Objects per expression", objects, ("0", objects[-1].label))
    if targets is None:
        return [size_chart, object_chart]
    ious = count_in_parts([target.ceiling for target in targets])
    points = count_numbers([len(target.prompts[0].points) for target in targets if target.prompts])
    return [
        Histogram("Best IoU of each mask", ious, ("0", "1")),
        size_chart,
        Histogram("Points in the best prompts", points, ("0", points[-1].label)),
        object_chart,
    ]


def write_preview(
    split: Path,
    out: Path,
    progress: Progress,
    targets: Path | None = None,
    segmenter: str = "",
    limit: int = 60,
    images: Path | None = None,
    device: str | None = None,
) -> str:
    """Write the page of one split.

    Args:
        split: a folder of samples.
        out: path of the HTML file.
        progress: opens a progress bar.
        targets: a folder of targets of these samples.
        segmenter: predicts masks from the targets' prompts; named as on the command line.
        limit: maximum number of cards, 1 or more.
        images: the image root, if the images were moved.
        device: of the segmenter, as torch names it.

    Returns:
        One line about what was written.

    Raises:
        UserError: for a folder without samples, targets of other samples, or a file that cannot be written.
    """
    if (split / conversations.INDEX).is_file() and not (split / INDEX).is_file():
        raise UserError(f"{split} holds conversations, which have no masks to preview: give a folder of samples")
    samples = read_samples(split, images)
    if segmenter and targets is None:
        raise UserError("--segmenter predicts masks from targets: give --targets too")
    targets_by_mask = None if targets is None else _read_targets(samples, targets)
    check_file(out)
    model = _load_segmenter(segmenter, device) if segmenter else None
    count = min(limit, len(make_cases(samples.samples, targets_by_mask)))
    with progress(count, "cards") as advance:
        html = render_preview(samples, " / ".join(split.parts[-2:]), targets_by_mask, model, limit, advance)
    write_text(out, html)
    return f"{out}: {count} cards, {len(html) / 1e6:.1f} MB"


def _read_targets(samples: SampleSet, folder: Path) -> dict[tuple[str, int], Target]:
    """The targets of a folder; refused if none of them is of these samples."""
    targets = read_targets(folder)
    ids = {sample.id for sample in samples}
    if targets and not any(sample_id in ids for sample_id, _ in targets):
        raise UserError(
            f"{folder} holds targets of other samples: none of its {len(targets)} is of these {len(ids)} samples"
        )
    return targets


def _load_segmenter(spec: str, device: str | None) -> Segmenter:
    from sam4mllm.config import PipelineConfig

    config = PipelineConfig(segmenter=spec, device=device)
    config.check_user_prompts()
    return config.build_segmenter()
