"""RES, GRES and reasoning on a small scale: the embedded models on synthetic scenes, with several prompting methods.

    sam4mllm eval synthetic --out out/eval [--scenes 230] [--way ppg --way pqpp] [--ambiguous]

Each method (``--way``) predicts the test split once, and the tables are computed from its subsets. Existing predictions
are kept. Files in the ``--out`` folder:

    shapes-230/test, images            samples of 230 scenes
    shapes-230/ppg.jsonl               predictions of a method; their error breakdowns are in ppg.diagnosis.jsonl
    shapes-230/tables.md, pqpp.html    the printed tables; a report that compares PQPP and PPG, if both ran
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import SampleSet
from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.diagnose import diagnose_set
from sam4mllm.prediction.record import read_predictions
from sam4mllm.prediction.run import predict_set
from sam4mllm.protocols.methods import METHODS, Method
from sam4mllm.protocols.synthetic_tables import Found, format_methods, has_ambiguous_box, tables
from sam4mllm.report.page import write_page
from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.progress import progress
from sam4mllm.runtime.specs import EMBEDDED, TINY
from sam4mllm.synthetic.scenes import Level
from sam4mllm.synthetic.shards import write_scenes

BATCH = 32
LEVEL = Level(objects=(1, 3))
PROFILE = "rela"  # of breakdowns and page, because lavt counts a correct "none" as 0
PAGE = ("calibrated", "ppg")


def recipe_of(method: Method) -> PipelineConfig:
    """The configuration that runs a method with the embedded models."""
    mllm = "" if method.prompter == "oracle" else TINY
    adapter = str(EMBEDDED / method.adapter) if method.adapter else None
    return PipelineConfig(TINY, mllm, method.prompter, method.options, adapter, device="cpu")


def methods_named(names: Sequence[str]) -> dict[str, Method]:
    """The methods with these names, in the order of `METHODS`.

    Raises:
        UserError: if a name is unknown; lists the choices.
    """
    for name in names:
        if name not in METHODS:
            raise UserError(f"unknown way {name!r}: choose from {', '.join(METHODS)}")
    return {name: method for name, method in METHODS.items() if name in names}


def evaluate(
    home: Path, scenes: int, methods: Mapping[str, Method], bootstrap: Bootstrap, ambiguous: bool = False
) -> str:
    """Writes samples, predictions, breakdowns and tables to ``home``, and returns the tables.

    Args:
        home: the output folder.
        scenes: number of scenes.
        methods: methods by name.
        bootstrap: settings of the intervals.
        ambiguous: use only the ambiguous expressions.

    Raises:
        UserError: if the folder cannot be written, or holds predictions with other settings.
    """
    check_folder(home)
    samples = write_scenes(home, "test", scenes, LEVEL)
    if ambiguous:
        samples = SampleSet(tuple(filter(has_ambiguous_box, samples)), samples.images)
    results = {name: point_labels(name, recipe_of(method), samples, home) for name, method in methods.items()}
    text = tables(samples.samples, results, bootstrap) + format_methods(methods, results)
    write_text(home / "tables.md", text)
    if methods.keys() >= set(PAGE):
        files = [(home / f"{name}.jsonl", home / f"{name}.diagnosis.jsonl") for name in PAGE]
        write_page(samples, "shapes", files, PROFILE, home / "pqpp.html", bootstrap, ["targets", "kind"])
    else:
        typer.echo(f"pqpp.html is not written: it compares {PAGE[0]} with {PAGE[1]}, and needs both", err=True)
    return text


def point_labels(name: str, recipe: PipelineConfig, samples: SampleSet, home: Path) -> Found:
    """Predicts and diagnoses all samples with one method; existing predictions are kept."""
    file = home / f"{name}.jsonl"
    typer.echo(f"{name}: {len(samples)} samples", err=True)
    errors = predict_set(recipe, samples, file, BATCH, progress)
    if errors:
        typer.echo(f"{name}: {len(errors)} failed, and count as empty masks; the first: {errors[0]}", err=True)
    diagnosis = diagnose_set(samples, file, "", PROFILE, file.with_suffix(".diagnosis.jsonl"), progress, device="cpu")
    return Found(read_predictions(file), diagnosis.entries)
