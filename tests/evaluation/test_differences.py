import math

import numpy as np
import pytest

from sam4mllm.data.samples import Sample
from sam4mllm.evaluation.differences import difference, table
from sam4mllm.geometry.prompts import Box, Prompt
from sam4mllm.geometry.rle import Rle
from sam4mllm.prediction.record import Prediction


def strip(columns):
    """A mask of 10 x 10 pixels: the first ``columns`` columns."""
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, :columns] = True
    return Rle.from_mask(mask)


def sample(number, columns):
    masks = (strip(columns),) if columns else ()
    return Sample(f"s{number}", f"{number}.png", 10, 10, "it", masks)


def said(number, columns, readable=True):
    prompts = (Prompt(Box(0, 0, columns, 10)),) if columns else ()
    return Prediction(f"s{number}", prompts, strip(columns), readable=readable)


SAMPLES = [sample(0, 4), sample(1, 8), sample(2, 0)]


def test_the_table_has_a_row_per_method():
    ways = {"right": [said(0, 4), said(1, 8), said(2, 0)], "half": [said(0, 2), said(1, 8), said(2, 3, readable=False)]}
    shown = table(SAMPLES, ways)
    assert "| right | 3 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 0.0 | 0 | 0 |" in shown
    assert "| half | 3 | 66.7 | 50.0 | 0.0 | 100.0 | 100.0 | 33.3 | 0 | 0 |" in shown


def test_a_difference_is_over_all_pixels_and_inside_its_interval():
    samples = [sample(number, 4 + number % 5) for number in range(40)]
    right = [said(number, 4 + number % 5) for number in range(40)]
    worse = [said(number, 2 + number % 5) for number in range(40)]
    apart, low, high = difference(samples, right, worse)
    assert apart == pytest.approx(100 - 100 * 4 / 6)
    assert 0 < low < apart < high
    assert difference(samples, worse, right)[0] == pytest.approx(-apart)
    assert difference(samples, right, right) == (0, 0, 0)


def test_expressions_of_one_image_are_resampled_together():
    """Twenty copies of an expression on one image carry as much information as one."""
    one = [Sample(f"s{number}", "same.png", 10, 10, "it", (strip(4),)) for number in range(20)]
    right, worse = ([said(number, columns) for number in range(20)] for columns in (4, 2))
    apart, low, high = difference(one, right, worse)
    assert apart == 50
    assert math.isnan(low)
    assert math.isnan(high)
