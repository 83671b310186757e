"""What the demonstration found, as tables: ways of asking by numbers, and whether one is better beyond chance.

Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sam4mllm.metrics import Counts, count, lavt
from sam4mllm.predictions import Prediction
from sam4mllm.samples import Sample
from sam4mllm.score import score

COLUMNS = ("cIoU", "gIoU", "N_acc", "Pr@0.5", "box Acc@0.5", "unreadable", "failed", "undeserved")
DRAWS = 2000


def table(samples: Sequence[Sample], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """A Markdown table, a line for each way of asking; shares in percent, the last two columns as numbers of samples.

    cIoU, gIoU and N_acc are those of the profile ``rela``; Pr@0.5 and the box are of the samples with targets, and
    with one target. Failed and undeserved are those of `Scores`.
    """
    lines = [["asked by", "n", *COLUMNS], ["---", *["---:"] * (len(COLUMNS) + 1)]]
    targeted = [sample for sample in samples if sample.masks]
    for name, found in predictions.items():
        scores, by_id = score(samples, found, "rela"), {one.id: one for one in found}
        counts = [count(sample.truth, by_id[sample.id].mask) for sample in targeted]
        precise = lavt(counts)["Pr@0.5"] if counts else math.nan
        metrics = scores.metrics
        numbers = [metrics["cIoU"], metrics["gIoU"], metrics["N_acc"], precise, scores.box_accuracy]
        numbers.append(scores.unreadable / scores.n)
        shown = ["-" if math.isnan(one) else f"{100 * one:.1f}" for one in numbers]
        lines.append([name, str(scores.n), *shown, str(scores.failed), str(scores.undeserved)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def difference(
    samples: Sequence[Sample], first: Sequence[Prediction], second: Sequence[Prediction], seed: int = 0
) -> tuple[float, float, float]:
    """By how much cIoU is higher by the first predictions than by the second, in percent, with a 95% interval.

    The interval is a paired bootstrap's (Efron and Tibshirani, 1993, percentile method) over pictures: the expressions
    of one picture are not independent.

    Returns:
        The difference, and the interval's ends.
    """
    pictures = {name: row for row, name in enumerate(dict.fromkeys(sample.image for sample in samples))}
    sums = np.zeros((len(pictures), 4))
    for side, predictions in enumerate((first, second)):
        by_id = {one.id: one for one in predictions}
        for sample in samples:
            found: Counts = count(sample.truth, by_id[sample.id].mask)
            sums[pictures[sample.image], 2 * side : 2 * side + 2] += found.intersection, found.union
    drawn = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    apart = [_apart(sums[rows].sum(axis=0)) for rows in drawn]
    low, high = np.percentile(apart, (2.5, 97.5))
    return _apart(sums.sum(axis=0)), float(low), float(high)


def _apart(sums: np.ndarray) -> float:
    return float(100 * (sums[0] / max(sums[1], 1) - sums[2] / max(sums[3], 1)))
