"""Compares prompting methods: a table of their scores, and the cIoU difference of two methods with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.metrics import lavt
from sam4mllm.evaluation.pairing import evaluate_set
from sam4mllm.evaluation.scores import markdown, score_differences, scores_of
from sam4mllm.prediction.record import Prediction

COLUMNS = ("cIoU", "gIoU", "N_acc", "Pr@0.5", "box Acc@0.5", "unreadable", "failed", "undeserved")


def table(samples: Sequence[Sample], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """Formats a Markdown table with one row per prompting method, in percent; the last two columns are sample counts.

    cIoU, gIoU and N_acc follow the profile ``rela``. Pr@0.5 covers the samples with targets, box Acc@0.5 the samples
    with one target. For the columns failed and undeserved see `Scores`.
    """
    lines = [["prompter", "n", *COLUMNS], ["---", *["---:"] * (len(COLUMNS) + 1)]]
    for name, outcomes in predictions.items():
        evaluated = evaluate_set(samples, outcomes, "rela")
        scores = scores_of(evaluated)
        targeted = evaluated.pixels[evaluated.pixels.ground_truth.nonzero()[0]]
        metrics = scores.metrics
        numbers = [metrics["cIoU"], metrics["gIoU"], metrics["N_acc"], lavt.ratios(targeted)["Pr@0.5"].value]
        numbers += [scores.box_accuracy, scores.unreadable / scores.n]
        cells = ["-" if math.isnan(number) else f"{100 * number:.1f}" for number in numbers]
        lines.append([name, str(scores.n), *cells, str(scores.failed), str(scores.undeserved)])
    return markdown(lines)


def difference(
    samples: Sequence[Sample], first: Sequence[Prediction], second: Sequence[Prediction], seed: int = 0
) -> tuple[float, float, float]:
    """cIoU of the first predictions minus cIoU of the second, in points, with a 95% interval.

    The interval comes from a paired bootstrap over images (see `scores.score_differences`).

    Returns:
        The difference, and the lower and upper end of its interval.
    """
    evaluated, other = (evaluate_set(samples, predictions, "rela") for predictions in (first, second))
    gain, low, high = score_differences(evaluated, other, Bootstrap(seed=seed))["cIoU"]
    return 100 * gain, 100 * low, 100 * high
