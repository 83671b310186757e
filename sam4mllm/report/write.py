"""What `sam4mllm report` does: samples, predictions and what was found out about them in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam4mllm.runtime.files import check_file, write_text
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import read_ledger
from sam4mllm.evaluation.metrics import profile_named
from sam4mllm.prediction.record import read_predictions, with_beside
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.report.run import Run
from sam4mllm.report.page import report
from sam4mllm.data.samples import SampleSet
from sam4mllm.evaluation.score_run import warnings
from sam4mllm.evaluation.subsets import stratum_named
from sam4mllm.evaluation.pairing import Places


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
