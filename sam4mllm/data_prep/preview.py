"""One split as one HTML page to look at: pictures, phrases, masks, prompts, and what a segmenter makes of them.

    sam4mllm data preview data/refcoco/val --out val.html
    sam4mllm data preview data/refcoco/val --targets data/refcoco/val-targets --segmenter tiny --out val.html

The page stands alone: it can be mailed, and opened without a network. Cases come worst first, by the best IoU that a
target reached; what cannot be read is counted, named, and keeps its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from sam4mllm.data import conversations
from sam4mllm.data.samples import INDEX, Sample, SampleSet, read_samples
from sam4mllm.data_prep.cards import Case, cards_of
from sam4mllm.errors import UserError
from sam4mllm.report.charts import histogram, numbers, shares
from sam4mllm.report.html import Card, Finding, Section, Table, beside, findings, page, section, table, tiles
from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.runtime.progress import Progress
from sam4mllm.segmenters import Segmenter
from sam4mllm.targets.record import Target, read_targets

WORST = 20
_LOWEST = "By the best IoU that any candidate reached, lowest first."


def cases_of(samples: Sequence[Sample], targets: Mapping[tuple[str, int], Target] | None) -> list[Case]:
    """One case for each sample; where there are targets, one for each mask, and for each sample without masks."""
    if targets is None:
        return [Case(sample) for sample in samples]
    return [
        case
        for sample in samples
        for case in (
            [Case(sample, index, targets.get((sample.id, index))) for index in range(len(sample.masks))]
            or [Case(sample)]
        )
    ]


def chosen(cases: Sequence[Case], limit: int) -> tuple[list[Case], list[Case], list[Case]]:
    """The worst that keep a prompt, the worst that keep none, and of all others an even choice, in order.

    The worst have the lowest ceilings, lowest first, equals in order. Those that keep none have no prompt to look at:
    they shall not crowd out the others.
    """
    ranked = sorted((case.target.ceiling, number) for number, case in enumerate(cases) if case.target is not None)
    kept, lost = ([number for _, number in ranked if cases[number].prompted == keeps] for keeps in (True, False))
    worst = kept[: min(WORST, limit)]
    none = lost[: min(WORST, limit - len(worst))]
    others = [case for number, case in enumerate(cases) if number not in {*worst, *none}]
    count = min(limit - len(worst) - len(none), len(others))
    rest = [others[index * len(others) // count] for index in range(count)]
    return [cases[number] for number in worst], [cases[number] for number in none], rest


def show(
    samples: SampleSet,
    title: str,
    targets: Mapping[tuple[str, int], Target] | None = None,
    segmenter: Segmenter | None = None,
    limit: int = 60,
    advance: Callable[[], None] = lambda: None,
) -> str:
    """The page of one split; the same values give the same text.

    Args:
        samples: with pictures, of which some may be missing.
        title: of the page.
        targets: of these samples; None shows the samples with their masks.
        segmenter: redraws the masks from the targets' best prompts; None shows the stored IoUs alone.
        limit: cards at most, 1 or more.
        advance: called after each card.

    Raises:
        UserError: where the segmenter cannot take the prompts.
    """
    cases = cases_of(samples.samples, targets)
    worst, none, rest = chosen(cases, limit)
    cards = cards_of([*none, *worst, *rest], samples, segmenter, advance)
    first, second, others = cards[: len(none)], cards[len(none) :][: len(worst)], cards[len(worst) + len(none) :]
    left = len(cases) - len(worst) - len(none)
    own = None if targets is None else [case.target for case in cases if case.target is not None]
    return page(
        title,
        _notes(targets, segmenter),
        [
            tiles(_tiles(samples.samples, own or [])),
            findings(_findings(samples, cases, targets, cards)),
            beside(_charts(cases, own)),
            table(_table(samples.samples)),
            section(Section(f"The worst {len(first)} that keep no prompt", _LOWEST, first)),
            section(Section(f"The worst {len(second)}", f"Of those that keep a prompt. {_LOWEST}", second)),
            section(Section("The rest" if worst or none else "Samples", _which(len(others), left), others)),
        ],
    )


def _notes(targets: Mapping[tuple[str, int], Target] | None, segmenter: Segmenter | None) -> list[str]:
    if targets is None:
        return ["Samples with their true masks. Without targets there are no prompts and no IoUs."]
    drawn = (
        "No segmenter was given: IoUs are those stored, and nothing is redrawn."
        if segmenter is None
        else "The mask beside the true one is what the segmenter redraws from them now."
    )
    return [
        f"Targets: the prompts that redraw each mask best. {drawn}",
        "A plus on green is a point on the object, a minus on red one off it.",
    ]


def _which(shown: int, there: int) -> str:
    return f"All {there:,}, in order." if shown == there else f"{shown:,} of {there:,}, evenly chosen, in order."


def _tiles(samples: Sequence[Sample], targets: Sequence[Target]) -> list[tuple[str, str]]:
    """The figures on top."""
    tiles = [
        (f"{len(samples):,}", "expressions"),
        (f"{len({sample.image for sample in samples}):,}", "pictures"),
        (f"{sum(len(sample.masks) for sample in samples):,}", "masks"),
        (f"{sum(not sample.masks for sample in samples):,}", "expressions of nothing"),
    ]
    if targets:
        kept = sum(bool(target.prompts) for target in targets)
        tiles += [
            (f"{kept / len(targets):.1%}", "of the targets keep prompts"),
            (f"{fmean(target.ceiling for target in targets):.3f}", "mean of the best IoUs"),
        ]
    return tiles


def _table(samples: Sequence[Sample]) -> Table:
    """The counts of each split of each set."""
    keys = sorted({(sample.source, sample.split) for sample in samples})
    rows = []
    for source, split in keys:
        own = [sample for sample in samples if (sample.source, sample.split) == (source, split)]
        counts = (
            len(own),
            len({sample.image for sample in own}),
            sum(len(sample.masks) for sample in own),
            sum(len(sample.masks) > 1 for sample in own),
            sum(not sample.masks for sample in own),
        )
        rows.append([source, split, *(f"{count:,}" for count in counts)])
    return Table(
        ["set", "split", "expressions", "pictures", "masks", "of several objects", "of nothing"], rows, words=2
    )


def _findings(
    samples: SampleSet,
    cases: Sequence[Case],
    targets: Mapping[tuple[str, int], Target] | None,
    cards: Sequence[Card],
) -> list[Finding]:
    """All that is amiss, by name."""
    pictures = sorted({sample.image for sample in samples})
    masks = [case for case in cases if case.index is not None]
    here = {(case.sample.id, case.index) for case in masks}
    return [
        Finding("Missing pictures", [name for name in pictures if not (samples.images / name).is_file()]),
        Finding(
            "Cards below whose picture cannot be used",
            [f"{card.name}: {card.fault}" for card in cards if not card.panels],
        ),
        Finding("Expressions with an empty mask", [each.id for each in samples if not all(m.area for m in each.masks)]),
        Finding("Masks without a target", [_name(case) for case in masks if case.target is None]),
        Finding(
            "Masks that keep no prompts, no candidate having reached the least IoU",
            [_name(case) for case in masks if case.target and not case.target.prompts and case.masks[0].area],
        ),
        Finding(
            "Targets of masks that are not here",
            [f"{name}, mask {index}" for name, index in targets or () if (name, index) not in here],
        ),
    ]


def _name(case: Case) -> str:
    return f"{case.sample.id}, mask {case.index}"


def _charts(cases: Sequence[Case], targets: Sequence[Target] | None) -> list[str]:
    """Histograms of what there is; the size as a length, for areas crowd at the left."""
    sizes = [math.sqrt(case.share) for case in cases if case.masks]
    objects = numbers([len(sample.masks) for sample in {case.sample.id: case.sample for case in cases}.values()])
    charts = [
        histogram("Object size (√ of its share of the picture)", shares(sizes), ("0", "1")),
        histogram("Objects per expression", objects, ("0", objects[-1].label)),
    ]
    if targets is None:
        return charts
    points = numbers([len(target.prompts[0].points) for target in targets if target.prompts])
    return [
        histogram("Best IoU of each mask", shares([target.ceiling for target in targets]), ("0", "1")),
        charts[0],
        histogram("Points in the best prompts", points, ("0", points[-1].label)),
        charts[1],
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
        out: an HTML file.
        progress: makes a progress bar of so many steps.
        targets: a folder of targets of these samples.
        segmenter: redraws the masks from the targets' prompts; named as on the command line.
        limit: cards at most, 1 or more.
        images: the image root, if the images were moved.
        device: of the segmenter, as torch names it.

    Returns:
        In one line what was written.

    Raises:
        UserError: for a folder without samples, targets of other samples, or a file that cannot be written.
    """
    if (split / conversations.INDEX).is_file() and not (split / INDEX).is_file():
        raise UserError(f"{split} holds talks, which have no masks to look at: give a folder of samples")
    samples = read_samples(split, images)
    found = None if targets is None else _targets_of(samples, targets)
    check_file(out)
    drawer = _segmenter(segmenter, device, found is not None)
    count = min(limit, len(cases_of(samples.samples, found)))
    with progress(count, "drawn") as advance:
        text = show(samples, " / ".join(split.parts[-2:]), found, drawer, limit, advance)
    write_text(out, text)
    return f"{out}: {count} cards, {len(text) / 1e6:.1f} MB"


def _targets_of(samples: SampleSet, folder: Path) -> dict[tuple[str, int], Target]:
    """The targets of a folder, some of which are of these samples."""
    found = read_targets(folder)
    ids = {sample.id for sample in samples}
    if found and not any(name in ids for name, _ in found):
        raise UserError(f"{folder} holds targets of other samples: none of its {len(found)} is of these {len(ids)}")
    return found


def _segmenter(spec: str, device: str | None, targets: bool) -> Segmenter | None:
    if not spec:
        return None
    if not targets:
        raise UserError("a segmenter redraws what targets say: give --targets too")
    from sam4mllm.config import Recipe

    recipe = Recipe(segmenter=spec, device=device)
    recipe.check_by_hand()
    return recipe.build_segmenter()
