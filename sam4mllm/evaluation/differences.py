"""What the demonstration found, as tables: ways of asking by numbers, and whether one is better beyond chance.

Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import lavt
from sam4mllm.evaluation.pairing import tally
from sam4mllm.evaluation.scores import compared, markdown, scores_of
from sam4mllm.prediction.record import Prediction

COLUMNS = ("cIoU", "gIoU", "N_acc", "Pr@0.5", "box Acc@0.5", "unreadable", "failed", "undeserved")


def table(samples: Sequence[Sample], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """A Markdown table, a line for each way of asking; shares in percent, the last two columns as numbers of samples.

    cIoU, gIoU and N_acc are those of the profile ``rela``; Pr@0.5 and the box are of the samples with targets, and
    with one target. Failed and undeserved are those of `Scores`.
    """
    lines = [["asked by", "n", *COLUMNS], ["---", *["---:"] * (len(COLUMNS) + 1)]]
    for name, found in predictions.items():
        counted = tally(samples, found, "rela")
        scores = scores_of(counted)
        targeted = counted.pixels[counted.pixels.truth.nonzero()[0]]
        metrics = scores.metrics
        numbers = [metrics["cIoU"], metrics["gIoU"], metrics["N_acc"], lavt.ratios(targeted)["Pr@0.5"].value]
        numbers += [scores.box_accuracy, scores.unreadable / scores.n]
        shown = ["-" if math.isnan(one) else f"{100 * one:.1f}" for one in numbers]
        lines.append([name, str(scores.n), *shown, str(scores.failed), str(scores.undeserved)])
    return markdown(lines)


def difference(
    samples: Sequence[Sample], first: Sequence[Prediction], second: Sequence[Prediction], seed: int = 0
) -> tuple[float, float, float]:
    """By how much cIoU is higher by the first predictions than by the second, in percent, with a 95% interval.

    The interval is that of `score.compared`: a paired bootstrap over pictures.

    Returns:
        The difference, and the interval's ends.
    """
    one, two = (tally(samples, predictions, "rela") for predictions in (first, second))
    apart, low, high = compared(one, two, Bootstrap(seed=seed))["cIoU"]
    return 100 * apart, 100 * low, 100 * high
