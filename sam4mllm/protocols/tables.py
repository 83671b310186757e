"""A protocol's table with published scores and ours, as Markdown, LaTeX or JSON.

Notes below the table give the sources of the published scores, the parts without scores of ours with the reason, and
all metrics, intervals and signatures of our scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.scores import ORACLE, Scores, markdown, table
from sam4mllm.protocols.measure import ProtocolScores, score_protocol
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.protocols.published import MARKS, PublishedScores, read_published

NONE = "–"
CONTESTED = "‡"
SIGNS: Mapping[str, str] = {"2nd": "†"}
_TEX_SIGNS = {"†": r"$^\dagger$", CONTESTED: r"$^\ddagger$", NONE: "--"}


def as_markdown(protocol: Protocol, lines: Sequence[PublishedScores], ours: ProtocolScores, name: str) -> str:
    """The table, its notes, and the details of our scores."""
    header = ["method", *_columns(protocol)]
    cells = [header, ["---", *["---:"] * (len(header) - 1)], *_cells(protocol, lines, ours, name)]
    parts = [protocol.title, markdown(cells), "\n".join(f"- {note}" for note in _notes(lines, ours))]
    if ours.scores:
        parts += ["Measured here, with 95% intervals (bootstrap over images):", table(ours.scores, what="part")]
        parts.append("\n".join(f"- {part}: `{scores.signature}`" for part, scores in ours.scores.items()))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def as_latex(protocol: Protocol, lines: Sequence[PublishedScores], ours: ProtocolScores, name: str) -> str:
    """The table as a `tabular` for booktabs; notes and signatures are comments above it."""
    rows = [["method", *_columns(protocol)], *_cells(protocol, lines, ours, name)]
    lines_of_cells = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows]
    signatures = [f"{part}: {scores.signature}" for part, scores in ours.scores.items()]
    comments = [f"% {line}" for line in (protocol.title, *_notes(lines, ours), *signatures)]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}"
    head, *published_rows, last = lines_of_cells
    body = [begin, r"\toprule", head, r"\midrule", *published_rows, r"\midrule", last, r"\bottomrule"]
    return "\n".join([*comments, *body, r"\end{tabular}"]) + "\n"


def as_json(protocol: Protocol, lines: Sequence[PublishedScores], ours: ProtocolScores, name: str) -> str:
    """The table as JSON: published scores in percent as printed, ours as shares of 1."""
    document: dict[str, Any] = {
        "protocol": protocol.name,
        "title": protocol.title,
        "published": [
            {
                "method": line.method,
                "mark": line.mark,
                "read": line.read,
                "contested": line.contested,
                "percent": [{"part": part, "metric": metric, "value": v} for (part, metric), v in line.numbers.items()],
            }
            for line in lines
        ],
        "ours": {"name": name, "parts": {part: scores.to_json() for part, scores in ours.scores.items()}},
        "missing": dict(ours.missing),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


Format = Callable[[Protocol, Sequence[PublishedScores], ProtocolScores, str], str]
FORMATS: Mapping[str, Format] = {"markdown": as_markdown, "latex": as_latex, "json": as_json}


def format_named(name: str) -> Format:
    """The format with this name.

    Raises:
        UserError: if the name is unknown; lists the choices.
    """
    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    return FORMATS[name]


def protocol_table(
    protocol: Protocol, samples: Path, predictions: Path, form: str, name: str, bootstrap: Bootstrap
) -> str:
    """The table of published scores and of ours, in a row called ``name``.

    Raises:
        UserError: as `score_protocol` and `format_named` do.
    """
    ours = score_protocol(protocol, samples, predictions, bootstrap)
    return format_named(form)(protocol, read_published(protocol), ours, name)


def _columns(protocol: Protocol) -> list[str]:
    return [f"{part.name} {metric}" for part in protocol.parts for metric in protocol.metrics]


def _cells(protocol: Protocol, lines: Sequence[PublishedScores], ours: ProtocolScores, name: str) -> list[list[str]]:
    """One row per published method, then ours."""
    splits = [(part.name, metric) for part in protocol.parts for metric in protocol.metrics]
    rows = []
    for line in lines:
        signs = SIGNS[line.mark] + (CONTESTED if line.contested else "")
        rows.append([f"{line.method} {signs}", *(_format_score(line.numbers.get(split)) for split in splits)])
    shares = [_share(ours.scores.get(part), metric) for part, metric in splits]
    oracle = any(scores.oracle for scores in ours.scores.values())
    return [*rows, [f"{name} {ORACLE}" if oracle else name, *(_format_score(share) for share in shares)]]


def _share(scores: Scores | None, metric: str) -> float | None:
    """A score in percent; None if it was not measured or is undefined."""
    value = scores.metrics[metric] if scores else math.nan
    return None if math.isnan(value) else 100 * value


def _format_score(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _notes(lines: Sequence[PublishedScores], ours: ProtocolScores) -> list[str]:
    marks = dict.fromkeys(line.mark for line in lines)
    notes = [f"{SIGNS[mark]} {MARKS[mark]}" for mark in marks]
    notes += [f"{CONTESTED} {line.method}: {line.contested}" for line in lines if line.contested]
    notes += [f"{part} was not measured: {why}" for part, why in ours.missing.items()]
    oracle_parts = [part for part, scores in ours.scores.items() if scores.oracle]
    if oracle_parts:
        names = ", ".join(oracle_parts)
        notes.append(f"{names}: prompts made from the ground truth; the segmenter's ceiling, not a model's score")
    return notes


def _tex(cell: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in "&%_#$" else letter for letter in cell)
    for sign, tex in _TEX_SIGNS.items():
        escaped = escaped.replace(sign, tex)
    return escaped
