"""A protocol's table, ours beside the published ones, as Markdown, LaTeX or JSON. Prints no number that is not given.

Below it: where the published numbers were read, which parts are missing and why, and of each part that was measured all
numbers, their intervals and their signature.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.scores import ORACLE, Scores, markdown, table
from sam4mllm.protocols.measure import Measured, measured
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.protocols.published import MARKS, Published, published

NONE = "–"
CONTESTED = "‡"
SIGNS: Mapping[str, str] = MappingProxyType({"2nd": "†"})
_TEX_SIGNS = {"†": r"$^\dagger$", CONTESTED: r"$^\ddagger$", NONE: "--"}


def as_markdown(protocol: Protocol, lines: Sequence[Published], ours: Measured, name: str) -> str:
    """The table, its notes, and the details of what was measured."""
    header = ["method", *_columns(protocol)]
    cells = [header, ["---", *["---:"] * (len(header) - 1)], *_cells(protocol, lines, ours, name)]
    parts = [protocol.title, markdown(cells), "\n".join(f"- {note}" for note in _notes(lines, ours))]
    if ours.scores:
        parts += ["Measured here, with 95% intervals (bootstrap over pictures):", table(ours.scores, what="part")]
        parts.append("\n".join(f"- {part}: `{one.signature}`" for part, one in ours.scores.items()))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def as_latex(protocol: Protocol, lines: Sequence[Published], ours: Measured, name: str) -> str:
    """The table as a `tabular` for booktabs, its notes and signatures as comments above it."""
    rows = [["method", *_columns(protocol)], *_cells(protocol, lines, ours, name)]
    shown = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows]
    signatures = [f"{part}: {one.signature}" for part, one in ours.scores.items()]
    said = [f"% {line}" for line in (protocol.title, *_notes(lines, ours), *signatures)]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}"
    body = [begin, r"\toprule", shown[0], r"\midrule", *shown[1:-1], r"\midrule", shown[-1], r"\bottomrule"]
    return "\n".join([*said, *body, r"\end{tabular}"]) + "\n"


def as_json(protocol: Protocol, lines: Sequence[Published], ours: Measured, name: str) -> str:
    """Everything, numbers of others in percent as they were printed, ours as shares of 1."""
    found: dict[str, Any] = {
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
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


Format = Callable[[Protocol, Sequence[Published], Measured, str], str]
FORMATS: Mapping[str, Format] = MappingProxyType({"markdown": as_markdown, "latex": as_latex, "json": as_json})


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UserError: listing the choices.
    """
    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}: choose from {', '.join(FORMATS)}")
    return FORMATS[name]


def protocol_table(
    protocol: Protocol, samples: Path, predictions: Path, form: str, name: str, bootstrap: Bootstrap
) -> str:
    """The table of what was measured, under ``name``, beside the published numbers.

    Raises:
        UserError: as `measured` and `format_named` do.
    """
    ours = measured(protocol, samples, predictions, bootstrap)
    return format_named(form)(protocol, published(protocol), ours, name)


def _columns(protocol: Protocol) -> list[str]:
    return [f"{part.name} {metric}" for part in protocol.parts for metric in protocol.metrics]


def _cells(protocol: Protocol, lines: Sequence[Published], ours: Measured, name: str) -> list[list[str]]:
    """A row for each published line, and ours last."""
    places = [(part.name, metric) for part in protocol.parts for metric in protocol.metrics]
    rows = [[f"{line.method} {_signs(line)}", *(_shown(line.numbers.get(place)) for place in places)] for line in lines]
    shares = [_share(ours.scores.get(part), metric) for part, metric in places]
    oracle = any(scores.oracle for scores in ours.scores.values())
    return [*rows, [f"{name} {ORACLE}" if oracle else name, *(_shown(share) for share in shares)]]


def _share(scores: Scores | None, metric: str) -> float | None:
    """In percent; None where it was not measured, or has nothing to stand on."""
    value = scores.metrics[metric] if scores else math.nan
    return None if math.isnan(value) else 100 * value


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _signs(line: Published) -> str:
    return SIGNS[line.mark] + (CONTESTED if line.contested else "")


def _notes(lines: Sequence[Published], ours: Measured) -> list[str]:
    marks = dict.fromkeys(line.mark for line in lines)
    notes = [f"{SIGNS[mark]} {MARKS[mark]}" for mark in marks]
    notes += [f"{CONTESTED} {line.method}: {line.contested}" for line in lines if line.contested]
    notes += [f"{part} was not measured: {why}" for part, why in ours.missing.items()]
    drawn = [part for part, scores in ours.scores.items() if scores.oracle]
    return notes + (
        [f"{', '.join(drawn)}: prompts made from the true masks, the ceiling of a segmenter and no numbers of a model"]
        if drawn
        else []
    )


def _tex(cell: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in "&%_#$" else letter for letter in cell)
    for sign, tex in _TEX_SIGNS.items():
        escaped = escaped.replace(sign, tex)
    return escaped
