"""The page of a run, or of two side by side: numbers, where the IoU was lost, curves, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation import attribution
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.pairing import Places, by_label
from sam4mllm.evaluation.scores import compared, percent, scores_of, warnings
from sam4mllm.evaluation.subsets import subsets_named
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import with_beside
from sam4mllm.report.cards import picked, sections
from sam4mllm.report.figures import figures, lost, numbers, strata
from sam4mllm.report.html import Finding, beside, findings, page, section, table, tiles
from sam4mllm.report.run import Run
from sam4mllm.runtime.files import check_file, write_text


def report(
    samples: SampleSet,
    run: Run,
    other: Run | None = None,
    *,
    title: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    many: int = 6,
    notes: Sequence[str] = (),
) -> str:
    """The page; the same values give the same text.

    Args:
        samples: with pictures, of which some may be missing.
        run: what the page is about.
        other: of the same samples under the same profile, set beside it.
        title: of the page.
        bootstrap: of the differences.
        by: names of strata, each with the numbers and the ledger of ``run``.
        many: pictures of each kind at most.
        notes: sentences that have to be read with the numbers.

    Raises:
        UserError: for two runs that cannot be compared, and unknown strata.
    """
    runs = [run, other] if other else [run]
    apart = compared(run.tally, other.tally, bootstrap) if other else {}
    told = [f"Profile {run.scores.profile}; numbers in percent. {one.name}: {one.scores.signature}" for one in runs]
    return page(
        title,
        [*notes, *told],
        [
            tiles(_tiles(run)),
            findings(_findings(run)),
            table(numbers(run, other, apart)),
            *(_lost(runs)),
            *(part for name in by for part in _stratum(run, name)),
            beside(figures(runs)),
            *map(section, sections(picked(run, other, many), samples, runs)),
        ],
    )


def _tiles(run: Run) -> list[tuple[str, str]]:
    """The figures on top."""
    said = list(run.predictions.values())
    metrics = list(run.scores.metrics.items())[:4]
    return [
        (f"{len(run.tally):,}", "expressions"),
        (f"{len({sample.image for sample in run.tally.samples}):,}", "pictures"),
        *((percent(value), name) for name, value in metrics),
        (f"{sum(len(one.asked) for one in said):,}", "points asked about"),
    ]


def _findings(run: Run) -> list[Finding]:
    """All that went wrong, by name."""
    said = [run.predictions[sample.id] for sample in run.tally.samples]
    return [
        Finding("Samples that failed", [f"{one.id}: {one.error}" for one in said if one.error is not None]),
        Finding("Replies that are neither places nor a none", [one.id for one in said if not one.readable]),
        Finding(
            "Replies that were cut off", [one.id for one in said if not all(reply.finished for reply in one.replies)]
        ),
    ]


def _lost(runs: Sequence[Run]) -> list[str]:
    """Where the IoU was lost, of those runs whose diagnosis is there."""
    groups = {run.name: list(run.ledger.values()) for run in runs if run.ledger}
    if not groups:
        return []
    bars, figures_of = lost("Where the IoU was lost: the mean of 1 - IoU in points, by stage", groups)
    return [bars, table(figures_of)]


def _stratum(run: Run, name: str) -> list[str]:
    """The numbers of each label, and where they were lost."""
    stratum = subsets_named(name)
    scores = {label: scores_of(part) for label, part in by_label(run.tally, stratum).items()}
    parts = [table(strata(f"{run.name} by {name}", scores))]
    if run.ledger:
        labels = {sample.id: stratum.label_of(sample) for sample in run.tally.samples}
        bars, figures_of = lost(
            f"Where the IoU of {run.name} was lost, by {name}",
            attribution.by_label(list(run.ledger.values()), labels, stratum),
        )
        parts += [bars, table(figures_of)]
    return parts


def write_page(
    samples: SampleSet,
    name: str,
    files: Sequence[tuple[Path, Path | None]],
    profile: str,
    out: Path,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    many: int = 6,
) -> str:
    """Make ``out`` the page of one file of predictions, or of two.

    Args:
        samples: with the truth and the pictures.
        name: of the set.
        files: predictions as `predict` left them, one or two, each with its diagnosis, if there is one.
        profile: a key of `metrics.PROFILES`.
        out: an HTML file.
        bootstrap: of the intervals.
        by: names of strata.
        many: pictures of each kind at most.

    Returns:
        The page.

    Raises:
        UserError: for unknown names, files that cannot be read or written, and those that do not belong together.
    """
    for stratum in by:
        subsets_named(stratum)
    profile_named(profile)
    found = [diagnosis for _, diagnosis in files if diagnosis]
    check_file(out, read=[*found, *(file for predictions, _ in files for file in with_beside(predictions))])
    names = _names([predictions for predictions, _ in files])
    runs = [
        Run.of(
            said,
            samples.samples,
            read_predictions(file),
            profile,
            bootstrap,
            attribution.read_breakdowns(found) if found else None,
            Places(file),
        )
        for said, (file, found) in zip(names, files, strict=True)
    ]
    run, other = runs[0], runs[1] if len(runs) > 1 else None
    notes = list(dict.fromkeys(note for one in runs for note in warnings(one.scores)))
    title = f"{name}: {' and '.join(names)}"
    text = report(samples, run, other, title=title, bootstrap=bootstrap, by=by, many=many, notes=notes)
    write_text(out, text)
    return text


def _names(files: Sequence[Path]) -> list[str]:
    """What to call them: by their names without the ending, with the folder where these are the same."""
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"{files[0]} is given twice: name other predictions to set beside it")
    short = [file.stem for file in files]
    return short if len(set(short)) == len(files) else [str(file) for file in files]
