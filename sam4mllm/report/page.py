"""The report page of one run, or of a run and a baseline: scores, lost IoU, charts and images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation import attribution
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.evaluation.pairing import Locations, by_label
from sam4mllm.evaluation.scores import percent, score_differences, scores_of, warnings
from sam4mllm.evaluation.subsets import subsets_named
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.store import prediction_paths
from sam4mllm.report.cards import draw_sections, select_samples
from sam4mllm.report.html import ChartGrid, FoldedList, PagePart, Tiles, render_page
from sam4mllm.report.run import Run
from sam4mllm.report.tables import draw_charts, tabulate_losses, tabulate_scores, tabulate_subsets
from sam4mllm.runtime.files import check_file, write_text


def render_report(
    samples: SampleSet,
    run: Run,
    baseline: Run | None = None,
    *,
    title: str,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    limit: int = 6,
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML; the same values give the same text.

    Args:
        samples: samples with their images; images may be missing.
        run: the run that the page is about.
        baseline: predictions of the same samples under the same profile, to compare with.
        title: title of the page.
        bootstrap: settings of the intervals of differences.
        by: names of strata; each adds scores and losses of ``run`` by subset.
        limit: maximum number of cards per section.
        notes: warnings that apply to the scores.

    Raises:
        UserError: if the runs cannot be compared, or a stratum is unknown.
    """
    runs = [run, baseline] if baseline else [run]
    differences = score_differences(run.tally, baseline.tally, bootstrap) if baseline else {}
    signatures = [
        f"Profile {run.scores.profile}; scores in percent. {run.name}: {run.scores.signature}" for run in runs
    ]
    return render_page(
        title,
        [*notes, *signatures],
        [
            _headline(run),
            *_problems(run),
            tabulate_scores(run, baseline, differences),
            *_losses(runs),
            *(part for name in by for part in _subsets(run, name)),
            ChartGrid(draw_charts(runs)),
            *draw_sections(select_samples(run, baseline, limit), samples, runs),
        ],
    )


def _headline(run: Run) -> Tiles:
    metrics = list(run.scores.metrics.items())[:4]
    return Tiles(
        [
            (f"{len(run.tally):,}", "expressions"),
            (f"{len({sample.image for sample in run.tally.samples}):,}", "images"),
            *((percent(value), metric) for metric, value in metrics),
            (
                f"{sum(len(prediction.point_answers) for prediction in run.predictions.values()):,}",
                "points classified",
            ),
        ]
    )


def _problems(run: Run) -> list[FoldedList]:
    """Lists of samples with errors, unreadable replies or replies that were cut off."""
    predictions = [run.predictions[sample.id] for sample in run.tally.samples]
    failed = [f"{prediction.id}: {prediction.error}" for prediction in predictions if prediction.error is not None]
    unreadable = [prediction.id for prediction in predictions if not prediction.readable]
    cut_off = [prediction.id for prediction in predictions if not all(reply.finished for reply in prediction.replies)]
    return [
        FoldedList("Samples that failed", failed),
        FoldedList("Replies with neither coordinates nor a none", unreadable),
        FoldedList("Replies that were cut off", cut_off),
    ]


def _losses(runs: Sequence[Run]) -> list[PagePart]:
    """The lost IoU of the diagnosed runs, by stage."""
    groups = {run.name: list(run.ledger.values()) for run in runs if run.ledger}
    return list(tabulate_losses("Lost IoU by stage: mean of 1 - IoU, in points", groups)) if groups else []


def _subsets(run: Run, name: str) -> list[PagePart]:
    """Scores and losses by the labels of a stratum."""
    stratum = subsets_named(name)
    scores = {label: scores_of(part) for label, part in by_label(run.tally, stratum).items()}
    signatures = [f"{label}: {part.signature}" for label, part in scores.items()]
    parts: list[PagePart] = [
        tabulate_subsets(f"Scores of {run.name} by {name}, in percent", name, scores),
        FoldedList(f"Signatures of the scores by {name}", signatures, warning=False),
    ]
    if run.ledger:
        labels = {sample.id: stratum.label_of(sample) for sample in run.tally.samples}
        groups = attribution.by_label(list(run.ledger.values()), labels, stratum)
        parts += tabulate_losses(f"Lost IoU of {run.name} by stage and {name}, in points", groups)
    return parts


def write_page(
    samples: SampleSet,
    name: str,
    files: Sequence[tuple[Path, Path | None]],
    profile: str,
    out: Path,
    bootstrap: Bootstrap,
    by: Sequence[str] = (),
    limit: int = 6,
) -> str:
    """Writes the report of one prediction file, or of a prediction file and a baseline.

    Args:
        samples: samples with ground truth and images.
        name: name of the dataset.
        files: one or two prediction files, each with its diagnosis, if any.
        profile: a key of `metrics.PROFILES`.
        out: path of the HTML file.
        bootstrap: settings of the intervals.
        by: names of strata.
        limit: maximum number of cards per section.

    Returns:
        The page as HTML.

    Raises:
        UserError: if a name is unknown, a file cannot be read or written, or the files do not belong together.
    """
    for stratum in by:
        subsets_named(stratum)
    profile_named(profile)
    inputs = [file for predictions, _ in files for file in prediction_paths(predictions)]
    check_file(out, read=[*inputs, *(diagnosis for _, diagnosis in files if diagnosis)])
    names = _name_runs([predictions for predictions, _ in files])
    runs = [
        Run.of(
            run_name,
            samples.samples,
            read_predictions(predictions),
            profile,
            bootstrap,
            attribution.read_breakdowns(diagnosis) if diagnosis else None,
            Locations(predictions),
        )
        for run_name, (predictions, diagnosis) in zip(names, files, strict=True)
    ]
    run, baseline = runs[0], runs[1] if len(runs) > 1 else None
    notes = list(dict.fromkeys(note for run in runs for note in warnings(run.scores)))
    title = f"{name}: {' and '.join(names)}"
    html = render_report(samples, run, baseline, title=title, bootstrap=bootstrap, by=by, limit=limit, notes=notes)
    write_text(out, html)
    return html


def _name_runs(files: Sequence[Path]) -> list[str]:
    """The file names without suffix, or the full paths if two names are equal."""
    if len({file.resolve() for file in files}) < len(files):
        raise UserError(f"{files[0]} is given twice: pass a different file to compare with")
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(files) else [str(file) for file in files]
