"""Prints a training's plan as titled tables: plain text, or rich tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam4mllm.training.dataset.corpus import some
from sam4mllm.training.memory import Memory
from sam4mllm.training.plan import LongRow, RowPlan, TrainingPlan

BINS, BAR = 10, 40  # of the histogram: its rows, and how many signs its longest bar has
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class Section:
    """A titled table: column heads, which may be empty, rows, and a note below."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def plan_sections(plan: TrainingPlan) -> tuple[Section, ...]:
    """The plan as tables."""
    return (
        _course(plan),
        Section(
            "Rows of the first epoch",
            ("source", "kind", "rows", "expressions or talks"),
            tuple((count.source, count.kind, f"{count.rows:,}", f"{count.items:,}") for count in plan.rows.rows),
        ),
        _tokens(plan.rows, plan.budget),
        Section(
            "The longest rows",
            ("row", "tokens", "of which picture", "ids"),
            tuple(_long(row) for row in plan.rows.longest),
        ),
        _trained(plan),
        _memory(plan.shape.memory),
        Section(
            "Left out",
            ("source", "kind", "how many", "why", "ids"),
            tuple(
                (part.source, part.kind, f"{len(part.ids):,}", part.reason, some(part.ids))
                for part in plan.rows.left_out
            ),
            "" if plan.rows.left_out else "Nothing is left out.",
        ),
    )


def format_sections(sections: Sequence[Section]) -> str:
    """The tables as plain text, with aligned columns."""
    return "\n".join(_plain(section) for section in sections)


def _plain(section: Section) -> str:
    rows = [*([section.heads] if section.heads else []), *section.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    shown = lines if section.rows else []
    return "\n".join([section.title, *(f"  {line}" for line in [*shown, *filter(None, [section.note])]), ""])


def _course(plan: TrainingPlan) -> Section:
    rows = (
        ("model", plan.mllm),
        ("dialect", plan.dialect),
        ("steps", f"{plan.steps:,}"),
        ("conversations a step", f"{plan.rows_per_step:,}"),
        ("epochs", f"{plan.epochs:.2f}"),
        *([("validation samples", f"{plan.validation:,}")] if plan.validation else []),
        *([("on training images", f"{len(plan.known):,}: {some(plan.known)}")] if plan.known else []),
    )
    return Section("Training", (), rows)


def _tokens(rows: RowPlan, budget: int) -> Section:
    """A histogram of the tokens of a row, and quantiles."""
    whole = np.array(rows.tokens) + np.array(rows.pictures)
    counts, edges = np.histogram(whole, bins=BINS)
    bars = [
        (f"{low:,.0f} to {high:,.0f}", "#" * -(-int(count) * BAR // int(counts.max())), f"{count:,}")
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    spread = [
        ("", name, f"{np.quantile(whole, at):,.0f}")
        for name, at in (("least", 0), ("median", 0.5), ("95%", 0.95), ("most", 1))
    ]
    least, most = min(rows.pictures), max(rows.pictures)
    pictures = f"{least:,}{f' to {most:,}' if most > least else ''} of a row are its picture's"
    of_all, of_text = rows.supervised / whole.sum(), rows.supervised / sum(rows.tokens)
    learned = f"{of_all:.1%} of all are learned from, {of_text:.1%} of the text's"
    note = f"Of {len(whole):,} rows: {pictures}; the text's budget is {budget:,}; {learned}."
    return Section("Tokens of a row", (), (*bars, *spread), note)


def _long(row: LongRow) -> tuple[str, ...]:
    return str(row.index), f"{row.tokens + row.picture:,}", f"{row.picture:,}", some(row.ids)


def _trained(plan: TrainingPlan) -> Section:
    whole, groups = plan.shape.parameters, plan.shape.trained
    rows = [(name, f"{count:,}", f"{count / whole:.3%}") for name, count in groups.items()]
    total = sum(groups.values())
    total_row = ("together", f"{total:,}", f"{total / whole:.3%}")
    return Section("What is trained", ("", "parameters", f"of the model's {whole:,}"), (*rows, total_row))


def _memory(memory: Memory) -> Section:
    named = {
        "weights of the base": memory.weights,
        "what is trained": memory.trained,
        "gradients": memory.gradients,
        "AdamW's moments": memory.moments,
        "activations that are kept": memory.activations,
        "the head, or a block computed again": memory.passing,
        "at the most": memory.peak,
    }
    rows = tuple((name, size_of(size, memory.peak)) for name, size in named.items())
    return Section(
        "Memory of a step on the longest row, on each device",
        (),
        rows,
        "An estimate: without pictures and what the image encoder holds, and as if no device shared weights.",
    )


def size_of(size: int, among: int) -> str:
    """Bytes in the unit of the largest of the column, ``among``."""
    return f"{size / GIB:.2f} GiB" if among >= GIB else f"{size / MIB:.1f} MiB"
