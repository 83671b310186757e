from dataclasses import replace

import pytest

from sam4mllm.errors import UserError
from sam4mllm.evaluation.attribution import diagnose
from sam4mllm.report.run import Run
from tests.drawing import Painter
from tests.report.made import DRAWS, OTHERS, PREDICTIONS, SAMPLES, run, samples


def test_a_run_has_the_iou_and_the_breakdown_of_each_sample(tmp_path):
    found = run(tmp_path)
    assert found.ious["loose"] == 0.8
    assert found.ledger["loose"].lost == {"loose box": 0.2}
    assert found.points.count == 1


@pytest.mark.parametrize(
    ("profile", "predictions", "change", "says"),
    [
        pytest.param("rela", OTHERS, list, "belongs to other predictions or another profile: right", id="predictions"),
        pytest.param("lavt", PREDICTIONS, lambda entries: entries[:3], "it has 3, the predictions 8", id="too few"),
        pytest.param(
            "rela",
            PREDICTIONS,
            lambda entries: [replace(entries[0], id="x"), *entries[1:]],
            "belongs to other samples",
            id="another id",
        ),
    ],
)
def test_a_diagnosis_of_other_predictions_or_samples_is_refused(tmp_path, profile, predictions, change, says):
    entries = change(diagnose(samples(tmp_path), PREDICTIONS, Painter(), "rela"))
    with pytest.raises(UserError, match=says):
        Run.of("mine", SAMPLES, predictions, profile, DRAWS, entries)
