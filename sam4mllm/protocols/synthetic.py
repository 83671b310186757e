"""The method's three benchmarks in small: synthetic scenes, asked in every way by the package's own models.

    sam4mllm eval synthetic --out out/eval [--scenes 230] [--way ppg --way pqpp] [--ambiguous]

Each way answers the test split once; the tables of RES, GRES and reasoning are counted from its parts. What was
answered before is kept. Below ``--out``:

    shapes-230/test, images            the samples of 230 scenes
    shapes-230/ppg.jsonl               the predictions of a way, and ppg.diagnosis.jsonl where each one's IoU was lost
    shapes-230/tables.md, pqpp.html    the tables that are printed; PQPP beside PPG, where both were asked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from sam4mllm.config import Recipe
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.diagnose import diagnose_set
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.run import predict_set
from sam4mllm.protocols.synthetic_tables import Found, shares_its_box, tables, told
from sam4mllm.protocols.ways import WAYS, Way
from sam4mllm.report.page import write_page
from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.progress import progress
from sam4mllm.runtime.specs import EMBEDDED, TINY
from sam4mllm.synthetic.scenes import Level
from sam4mllm.synthetic.shards import write_scenes

BATCH = 32
LEVEL = Level(objects=(1, 3))
PROFILE = "rela"  # of the error breakdowns and the page: the only one of the three that says what "none" is worth
PAGE = ("calibrated", "ppg")


def recipe_of(way: Way) -> Recipe:
    """What builds a way of asking from the embedded models."""
    mllm = "" if way.prompter == "oracle" else TINY
    taught = str(EMBEDDED / way.adapter) if way.adapter else None
    return Recipe(TINY, mllm, way.prompter, way.options, taught, device="cpu")


def ways_named(names: Sequence[str]) -> dict[str, Way]:
    """The ways of those names, in the order of `WAYS`.

    Raises:
        UserError: listing the choices.
    """
    for name in names:
        if name not in WAYS:
            raise UserError(f"there is no way {name!r}: choose from {', '.join(WAYS)}")
    return {name: way for name, way in WAYS.items() if name in names}


def evaluate(home: Path, scenes: int, ways: Mapping[str, Way], bootstrap: Bootstrap, ambiguous: bool = False) -> str:
    """Make ``home`` hold it all, of all expressions or of the ambiguous ones, and return the tables.

    Raises:
        UserError: for a folder that cannot be written, or holds answers of other models.
    """
    check_folder(home)
    samples = write_scenes(home, "test", scenes, LEVEL)
    if ambiguous:
        samples = SampleSet(tuple(filter(shares_its_box, samples)), samples.images)
    found = {name: answered(name, recipe_of(way), samples, home) for name, way in ways.items()}
    text = tables(samples.samples, found, bootstrap) + told(ways, found)
    write_text(home / "tables.md", text)
    if ways.keys() >= set(PAGE):
        files = [(home / f"{name}.jsonl", home / f"{name}.diagnosis.jsonl") for name in PAGE]
        write_page(samples, "shapes", files, PROFILE, home / "pqpp.html", bootstrap, ["targets", "kind"])
    else:
        typer.echo(f"no pqpp.html is written: it sets {PAGE[0]} beside {PAGE[1]}, and not both are asked", err=True)
    return text


def answered(name: str, recipe: Recipe, samples: SampleSet, home: Path) -> Found:
    """What a way answers about all samples; only what is missing is asked."""
    file = home / f"{name}.jsonl"
    typer.echo(f"{name}: {len(samples)} samples", err=True)
    errors = predict_set(recipe, samples, file, BATCH, progress)
    if errors:
        typer.echo(f"{name}: {len(errors)} failed and count as empty; the first: {errors[0]}", err=True)
    found = diagnose_set(samples, file, "", PROFILE, file.with_suffix(".diagnosis.jsonl"), progress, device="cpu")
    return Found(read_predictions(file), found.entries)
