"""The tables of the synthetic benchmark: for each part its numbers, a line a way, and where the IoU was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation import attribution
from sam4mllm.evaluation.attribution import ErrorBreakdown
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.differences import difference
from sam4mllm.evaluation.scores import score, table
from sam4mllm.prediction.record import Prediction
from sam4mllm.protocols.ways import Way
from sam4mllm.synthetic.shards import AMBIGUOUS

AGAINST = (("ppg", "box"), ("pqpp", "box"), ("pqpp", "ppg"), ("calibrated", "ppg"), ("calibrated", "pqpp"))


@dataclass(frozen=True, slots=True)
class Found:
    """What a way answered, and where the IoU of each answer was lost."""

    predictions: list[Prediction]
    entries: list[ErrorBreakdown]


@dataclass(frozen=True, slots=True)
class Part:
    """A table: its title, whose profile counts it, and which samples are in it."""

    title: str
    profile: str
    holds: Callable[[Sample], bool]


def shares_its_box(sample: Sample) -> bool:
    """Whether a box does not say which figure is meant: with that of another its IoU is .6 or more."""
    return sample.id.endswith(AMBIGUOUS)


PARTS = (
    Part("RES: one target", "lavt", lambda one: one.kind == "phrase" and len(one.masks) == 1),
    Part("GRES: one target, several, or none", "rela", lambda one: one.kind == "phrase"),
    Part("Reasoning: one target, named by its use", "lisa", lambda one: one.kind == "sentence"),
    Part("Ambiguous: a target shares its box with another figure", "rela", shares_its_box),
)


def tables(samples: Sequence[Sample], found: Mapping[str, Found], bootstrap: Bootstrap) -> str:
    """For each part that has samples its numbers, a line a way, and its error breakdown, a column a way, as Markdown.

    An expression with a target has one IoU under all three profiles, so one error breakdown serves them.
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
            parts += [attribution.format_table(entries)]
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
