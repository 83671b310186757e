"""The method's three benchmarks in small: synthetic scenes, asked in every way by the package's own models.

    python -m sam4mllm.protocols.synthetic --out out/eval [--scenes 230] [--way ppg --way pqpp] [--ambiguous]

Each way answers the test split once; the tables of RES, GRES and reasoning are counted from its parts. What was
answered before is kept. Below ``--out``:

    shapes-230/test, images            the samples of 230 scenes
    shapes-230/ppg.jsonl               the predictions of a way, and ppg.diagnosis.jsonl where each one's IoU was lost
    shapes-230/tables.md, pqpp.html    the tables that are printed; PQPP beside PPG, where both were asked
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from sam4mllm.cli.eval import run
from sam4mllm.protocols.diagnosis import beside
from sam4mllm.evaluation import attribution
from sam4mllm.runtime.files import check_folder, write_text
from sam4mllm.runtime.specs import EMBEDDED, TINY
from sam4mllm.cli.terminal import progress
from sam4mllm.evaluation.diagnose_run import diagnose_set
from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import Entry
from sam4mllm.prediction.run import predict_set
from sam4mllm.prediction.record import Prediction, read_predictions
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.config import Recipe
from sam4mllm.report.write import write_page
from sam4mllm.data.samples import Sample, SampleSet
from sam4mllm.evaluation.scores import score, table
from sam4mllm.synthetic import Level
from sam4mllm.demo import AMBIGUOUS, write_scenes
from sam4mllm.evaluation.differences import difference

BATCH = 32
LEVEL = Level(objects=(1, 3))
PROFILE = "rela"  # of the ledger and the page: the only one of the three that says what "none" is worth
PAGE = ("calibrated", "ppg")
AGAINST = (("ppg", "box"), ("pqpp", "box"), ("pqpp", "ppg"), ("calibrated", "ppg"), ("calibrated", "pqpp"))


@dataclass(frozen=True, slots=True)
class Way:
    """A way of asking: in words, and what it is built of."""

    says: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Found:
    """What a way answered, and where the IoU of each answer was lost."""

    predictions: list[Prediction]
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Part:
    """A table: its title, whose profile counts it, and which samples are in it."""

    title: str
    profile: str
    holds: Callable[[Sample], bool]


def _way(says: str, prompter: str, adapter: str | None = None, **options: str | int | float) -> Way:
    mllm = TINY if prompter != "oracle" else ""
    taught = str(EMBEDDED / adapter) if adapter else None
    return Way(says, Recipe(TINY, mllm, prompter, options, taught, device="cpu"))


def shares_its_box(sample: Sample) -> bool:
    """Whether a box does not say which figure is meant: with that of another its IoU is .6 or more."""
    return sample.id.endswith(AMBIGUOUS)


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "zero-shot": _way("the base's box", "box"),
        "verified": _way("the base's box, and interior points that the base itself verified", "verified"),
        "box": _way("the box of PQPP's adapter", "box", "pqpp"),
        "ppg": _way("PPG by its adapter", "ppg", "ppg"),
        "pqpp": _way(
            "PQPP by its adapter, the paper's thresholds",
            "pqpp",
            "pqpp",
            layout="grid",
            points=25,
            sure_yes=0.75,
            sure_no=0.9,
        ),
        "calibrated": _way("PQPP by its adapter, as it was calibrated", "pqpp", "pqpp"),
        "adaptive": _way("adaptive PQPP by that adapter", "adaptive", "pqpp"),
        "oracle-box": _way("the true boxes", "oracle", positive=0, negative=0),
        "oracle": _way("the true boxes with three random clicks on and three off", "oracle"),
    }
)
PARTS = (
    Part("RES: one target", "lavt", lambda one: one.kind == "phrase" and len(one.masks) == 1),
    Part("GRES: one target, several, or none", "rela", lambda one: one.kind == "phrase"),
    Part("Reasoning: one target, named by its use", "lisa", lambda one: one.kind == "sentence"),
    Part("Ambiguous: a target shares its box with another figure", "rela", shares_its_box),
)


def main() -> None:
    """The command line; a `UserError` is one line and exit code 2."""

    def command(
        out: Annotated[Path, typer.Option("--out", help="Root of what is drawn, answered and found.")],
        scenes: Annotated[int, typer.Option("--scenes", min=1, help="Of the test split.")] = 230,
        way: Annotated[list[str] | None, typer.Option("--way", help=f"{', '.join(WAYS)}; repeatable.")] = None,
        ambiguous: Annotated[
            bool, typer.Option("--ambiguous", help="Ask only those whose target shares its box with another figure.")
        ] = False,
        draws: Annotated[int, typer.Option("--draws", min=1, help="Of the bootstrap.")] = 2000,
    ) -> None:
        """RES, GRES and reasoning on synthetic scenes: tables, where the IoU was lost, and a page."""
        home = out / f"shapes-{scenes}{AMBIGUOUS if ambiguous else ''}"
        print(evaluate(home, scenes, ways_named(way or list(WAYS)), Bootstrap(draws), ambiguous), end="")
        typer.echo(f"all of it is in {home}", err=True)

    run(command)


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
    found = {name: answered(name, way.recipe, samples, home) for name, way in ways.items()}
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
    found = diagnose_set(samples, file, "", PROFILE, beside(file, "diagnosis.jsonl"), progress, device="cpu")
    return Found(read_predictions(file), found.entries)


def tables(samples: Sequence[Sample], found: Mapping[str, Found], bootstrap: Bootstrap) -> str:
    """For each part that has samples its numbers, a line a way, and its ledger, a column a way, as Markdown.

    An expression with a target has one IoU under all three profiles, so one ledger serves them.
    """
    parts = []
    for part in PARTS:
        some = {sample.id: sample for sample in samples if part.holds(sample)}
        if some:
            said = {name: [one for one in each.predictions if one.id in some] for name, each in found.items()}
            scores = {name: score(list(some.values()), each, part.profile, bootstrap) for name, each in said.items()}
            entries = {name: [one for one in each.entries if one.id in some] for name, each in found.items()}
            signature = next(iter(scores.values())).signature
            parts += [f"## {part.title}\n", table(scores, what="way"), f"`{signature}`\n"]
            parts += [apart(list(some.values()), said)]
            parts += ["Where the IoU was lost, in points of its mean (and in how many expressions):\n"]
            parts += [attribution.table(entries)]
    return "\n".join(parts)


def apart(samples: Sequence[Sample], found: Mapping[str, Sequence[Prediction]]) -> str:
    """By how much the cIoU of ways differs that are held against each other, a line each."""
    lines = []
    for better, worse in AGAINST:
        if {better, worse} <= found.keys():
            gain, low, high = difference(samples, found[better], found[worse])
            lines.append(f"- `{better}` less `{worse}`: {gain:+.1f} ({low:+.1f} to {high:+.1f})\n")
    title = f"Differences of cIoU, with the 95% interval over {len({one.image for one in samples})} pictures:\n"
    return "\n".join([title, *lines]) if lines else ""


def told(ways: Mapping[str, Way], found: Mapping[str, Found]) -> str:
    """What each way is, and how much it asked."""
    lines = []
    for name, way in ways.items():
        said = found[name].predictions
        boxes = sum(len(one.prompts) for one in said)
        asked = sum(len(one.asked) for one in said)
        lines.append(f"- `{name}`: {way.says}" + (f"; {asked / boxes:.1f} questions a box" if asked else ""))
    return "\n".join(["", "## The ways", "", *lines, ""])


if __name__ == "__main__":
    main()
