"""Compares scores with golden vectors that the official evaluators computed."""

import json

import pytest

from sam4mllm.evaluation.counts import GroundTruth
from sam4mllm.evaluation.metrics import PROFILES
from sam4mllm.geometry.rle import Rle, size_and_counts

SHARES = {"N_acc", "T_acc"}  # the vectors hold these as shares and the rest in percent
OTHER_NAMES = {"oIoU": "cIoU"}


@pytest.mark.parametrize(
    ("file", "profile", "loose"),
    [
        pytest.param("res.json", "lavt", {}, id="RES"),
        pytest.param("gres.json", "rela", {}, id="GRES"),
        pytest.param("reasonseg.json", "lisa", {"gIoU": 1e-2}, id="ReasonSeg"),  # LISA sums in 32 bits
    ],
)
def test_scores_match_the_official_evaluators(real_data, file, profile, loose):
    path = real_data.parent / "conformance" / file
    if not path.is_file():
        pytest.skip(f"no golden vectors at {path}")
    golden = json.loads(path.read_text())
    ground_truths, predictions = [], []
    for sample in golden["samples"]:
        ground_truth, ignore = Rle.from_json(sample["gt"]), sample["ignore"]
        ground_truths.append(
            GroundTruth((ground_truth,), *ground_truth.size, Rle.from_json(ignore) if ignore else None)
        )
        predictions.append(size_and_counts(sample["pred"]))
    numbers = PROFILES[profile](PROFILES[profile].count(ground_truths, predictions).rows)
    assert {OTHER_NAMES.get(name, name) for name in golden["expected"]} == set(numbers)
    for name, expected in golden["expected"].items():
        found = numbers[OTHER_NAMES.get(name, name)] * (1 if name in SHARES else 100)
        assert found == pytest.approx(expected, rel=0, abs=loose.get(name, 1e-4)), name
