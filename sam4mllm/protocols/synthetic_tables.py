"""The tables of the synthetic benchmark: scores and lost IoU of each method, for each subset of the samples."""

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
from sam4mllm.protocols.methods import Method
from sam4mllm.synthetic.shards import AMBIGUOUS

AGAINST = (("ppg", "box"), ("pqpp", "box"), ("pqpp", "ppg"), ("calibrated", "ppg"), ("calibrated", "pqpp"))


@dataclass(frozen=True, slots=True)
class Found:
    """The predictions of a method, and the error breakdown of each."""

    predictions: list[Prediction]
    entries: list[ErrorBreakdown]


@dataclass(frozen=True, slots=True)
class TablePart:
    """A table: its title, its metric profile, and a predicate that selects its samples."""

    title: str
    profile: str
    holds: Callable[[Sample], bool]


def has_ambiguous_box(sample: Sample) -> bool:
    """Whether the target's box is ambiguous: its IoU with the box of another figure is .6 or more."""
    return sample.id.endswith(AMBIGUOUS)


PARTS = (
    TablePart("RES: one target", "lavt", lambda sample: sample.kind == "phrase" and len(sample.masks) == 1),
    TablePart("GRES: one target, several, or none", "rela", lambda sample: sample.kind == "phrase"),
    TablePart("Reasoning: one target, named by its use", "lisa", lambda sample: sample.kind == "sentence"),
    TablePart("Ambiguous: a target shares its box with another figure", "rela", has_ambiguous_box),
)


def tables(samples: Sequence[Sample], results: Mapping[str, Found], bootstrap: Bootstrap) -> str:
    """Markdown tables for each part that has samples: scores with one row, lost IoU with one column per method.

    An expression with a target has the same IoU under all three profiles, so one error breakdown serves them all.
    """
    parts = []
    for part in PARTS:
        selected = [sample for sample in samples if part.holds(sample)]
        if not selected:
            continue
        ids = {sample.id for sample in selected}
        predictions, entries = {}, {}
        for name, result in results.items():
            predictions[name] = [prediction for prediction in result.predictions if prediction.id in ids]
            entries[name] = [entry for entry in result.entries if entry.id in ids]
        scores = {name: score(selected, predictions[name], part.profile, bootstrap) for name in predictions}
        signature = next(iter(scores.values())).signature
        parts += [
            f"## {part.title}\n",
            table(scores, what="way"),
            f"`{signature}`\n",
            format_differences(selected, predictions),
        ]
        parts += [
            "Lost IoU by stage, in points of mean IoU (number of expressions in brackets):\n",
            attribution.format_table(entries),
        ]
    return "\n".join(parts)


def format_differences(samples: Sequence[Sample], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """The cIoU difference of each pair of methods in `AGAINST`, one line each; empty without a pair."""
    lines = []
    for better, worse in AGAINST:
        if {better, worse} <= predictions.keys():
            gain, low, high = difference(samples, predictions[better], predictions[worse])
            lines.append(f"- `{better}` less `{worse}`: {gain:+.1f} ({low:+.1f} to {high:+.1f})\n")
    title = f"Differences of cIoU, with 95% intervals over {len({sample.image for sample in samples})} images:\n"
    return "\n".join([title, *lines]) if lines else ""


def format_methods(methods: Mapping[str, Method], results: Mapping[str, Found]) -> str:
    """A list of the methods with descriptions, and the number of questions per box if there are any."""
    lines = []
    for name, method in methods.items():
        predictions = results[name].predictions
        n_boxes = sum(len(prediction.prompts) for prediction in predictions)
        n_questions = sum(len(prediction.point_answers) for prediction in predictions)
        questions = f"; {n_questions / n_boxes:.1f} questions per box" if n_questions else ""
        lines.append(f"- `{name}`: {method.description}{questions}")
    return "\n".join(["", "## The ways", "", *lines, ""])
