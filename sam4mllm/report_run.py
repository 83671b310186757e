"""What `sam4mllm report` does: samples, predictions and what was found out about them in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam4mllm.atomic import check_file, write_text
from sam4mllm.errors import UserError
from sam4mllm.ledger import read_ledger
from sam4mllm.metrics import profile_named
from sam4mllm.predictions import read_predictions, with_beside
from sam4mllm.ratios import Bootstrap
from sam4mllm.report import Run
from sam4mllm.report.whole import report
from sam4mllm.samples import SampleSet
from sam4mllm.score_run import warnings
from sam4mllm.strata import stratum_named
from sam4mllm.tally import Places


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
        stratum_named(stratum)
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
            read_ledger(found) if found else None,
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
