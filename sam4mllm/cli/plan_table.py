"""Formats the plan of a training as titled tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam4mllm.training.dataset.corpus import first_ids
from sam4mllm.training.memory import Memory
from sam4mllm.training.plan import LongRow, RowPlan, TrainingPlan

BINS, BAR = 10, 40  # the histogram's rows, and the characters of its longest bar
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class Section:
    """A titled table: column heads (may be empty), rows, and a note below."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def plan_sections(plan: TrainingPlan) -> tuple[Section, ...]:
    """The tables of a plan."""
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
            ("row", "tokens", "image tokens", "ids"),
            tuple(_long(row) for row in plan.rows.longest),
        ),
        _trained(plan),
        _memory(plan.shape.memory),
        Section(
            "Left out",
            ("source", "kind", "count", "reason", "ids"),
            tuple(
                (part.source, part.kind, f"{len(part.ids):,}", part.reason, first_ids(part.ids))
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
    table = lines if section.rows else []
    return "\n".join([section.title, *(f"  {line}" for line in [*table, *filter(None, [section.note])]), ""])


def _course(plan: TrainingPlan) -> Section:
    rows = (
        ("model", plan.mllm),
        ("dialect", plan.dialect),
        ("steps", f"{plan.steps:,}"),
        ("conversations per step", f"{plan.rows_per_step:,}"),
        ("epochs", f"{plan.epochs:.2f}"),
        *([("validation samples", f"{plan.validation:,}")] if plan.validation else []),
        *([("on training images", f"{len(plan.known):,}: {first_ids(plan.known)}")] if plan.known else []),
    )
    return Section("Training", (), rows)


def _tokens(rows: RowPlan, budget: int) -> Section:
    """A histogram and quantiles of the tokens per row."""
    totals = np.array(rows.tokens) + np.array(rows.image_tokens)
    counts, edges = np.histogram(totals, bins=BINS)
    bars = [
        (f"{low:,.0f} to {high:,.0f}", "#" * -(-int(count) * BAR // int(counts.max())), f"{count:,}")
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    spread = [
        ("", name, f"{np.quantile(totals, level):,.0f}")
        for name, level in (("least", 0), ("median", 0.5), ("95%", 0.95), ("most", 1))
    ]
    least, most = min(rows.image_tokens), max(rows.image_tokens)
    image_tokens = f"{least:,}{f' to {most:,}' if most > least else ''} image tokens per row"
    of_all, of_text = rows.supervised / totals.sum(), rows.supervised / sum(rows.tokens)
    supervised = f"{of_all:.1%} of all tokens are supervised, {of_text:.1%} of the text tokens"
    note = f"Of {len(totals):,} rows: {image_tokens}; the budget of text tokens is {budget:,}; {supervised}."
    return Section("Tokens per row", (), (*bars, *spread), note)


def _long(row: LongRow) -> tuple[str, ...]:
    return str(row.index), f"{row.tokens + row.image_tokens:,}", f"{row.image_tokens:,}", first_ids(row.ids)


def _trained(plan: TrainingPlan) -> Section:
    parameters, groups = plan.shape.parameters, plan.shape.trained
    rows = [(name, f"{count:,}", f"{count / parameters:.3%}") for name, count in groups.items()]
    total = sum(groups.values())
    total_row = ("total", f"{total:,}", f"{total / parameters:.3%}")
    return Section("Trained parameters", ("", "parameters", f"share of {parameters:,}"), (*rows, total_row))


def _memory(memory: Memory) -> Section:
    sizes = {
        "weights of the base": memory.weights,
        "trained weights": memory.trained,
        "gradients": memory.gradients,
        "AdamW's moments": memory.moments,
        "stored activations": memory.activations,
        "output head, or a recomputed block": memory.passing,
        "peak": memory.peak,
    }
    rows = tuple((name, size_of(size, memory.peak)) for name, size in sizes.items())
    return Section(
        "Memory per device of a step on the longest row",
        (),
        rows,
        "An estimate that excludes images and the image encoder's activations; weights are not divided among devices.",
    )


def size_of(size: int, among: int) -> str:
    """Bytes as GiB or MiB, in the unit that fits ``among``, the largest value of the column."""
    return f"{size / GIB:.2f} GiB" if among >= GIB else f"{size / MIB:.1f} MiB"
